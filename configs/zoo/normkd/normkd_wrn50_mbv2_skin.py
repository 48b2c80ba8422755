# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""NormKD: a temperature for each sample and each network."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=0.1),
    loss_normkd=dict(type='hkd_mm.NormKDLoss', tau=2.0, loss_weight=0.9))))
