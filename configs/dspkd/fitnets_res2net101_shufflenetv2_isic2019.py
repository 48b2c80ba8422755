# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""FitNets: 88.13 % in the paper."""
_base_ = '../_base_/pairs/res2net101_shufflenetv2_isic2019.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_hint=dict(type='hkd_mm.FitNetLoss', loss_weight=100.0))))
