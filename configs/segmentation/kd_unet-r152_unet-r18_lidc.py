# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Soft masks of the teacher, pixel by pixel, beside Dice + BCE."""
_base_ = '../_base_/pairs/unet-r152_unet-r18_lidc.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_mask=dict(type='hkd_mm.DiceBCELoss'),
    loss_kd=dict(type='hkd_mm.PixelKLLoss', tau=2.0))))
