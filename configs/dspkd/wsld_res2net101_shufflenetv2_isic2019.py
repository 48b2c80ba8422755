# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""WSLD: 87.77 % in the paper."""
_base_ = '../_base_/pairs/res2net101_shufflenetv2_isic2019.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_wsld=dict(type='hkd_mm.WSLDLoss', tau=2.0, loss_weight=2.5))))
