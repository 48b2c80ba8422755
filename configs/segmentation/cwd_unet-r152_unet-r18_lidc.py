# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Channel-wise distillation of the last map of the encoders.

The paper's weight for maps of features is 50. In the first step of these
networks CWD is about 60 before its weight, and Dice + BCE 2: at 50 masks would
not count.
"""
_base_ = '../_base_/pairs/unet-r152_unet-r18_lidc.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_mask=dict(type='hkd_mm.DiceBCELoss'),
    loss_cwd=dict(type='hkd_mm.CWDLoss', loss_weight=0.5))))
