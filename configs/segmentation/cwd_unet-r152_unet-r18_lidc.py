# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Channel-wise distillation of the last map of the encoders."""
_base_ = '../_base_/pairs/unet-r152_unet-r18_lidc.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_mask=dict(type='hkd_mm.DiceBCELoss'),
    loss_cwd=dict(type='hkd_mm.CWDLoss', loss_weight=0.5))))
