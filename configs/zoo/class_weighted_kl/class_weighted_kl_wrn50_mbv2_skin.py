# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""KD + hard label, both weighted against class imbalance."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
class_weight = 'balanced'  # counted on the training split
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(
        type='hkd_mm.HardLabelLoss', class_weight=class_weight,
        loss_weight=0.1),
    loss_kd=dict(
        type='hkd_mm.ClassWeightedKLLoss', class_weight=class_weight,
        tau=4.0, loss_weight=0.9))))
