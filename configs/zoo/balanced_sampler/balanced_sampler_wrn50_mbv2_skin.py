# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""KD + hard label, all classes drawn equally often."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
train_dataloader = dict(
    sampler=dict(_delete_=True, type='hkd_mm.BalancedSampler'))
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=0.1),
    loss_kd=dict(type='hkd_mm.KLLoss', tau=4.0, loss_weight=0.9))))
