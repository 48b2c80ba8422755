# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Attention maps of four stages of the encoders, beside Dice + BCE."""
_base_ = '../_base_/pairs/unet-r152_unet-r18_lidc.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_mask=dict(type='hkd_mm.DiceBCELoss'),
    loss_at=dict(type='hkd_mm.ATLoss', loss_weight=1000.0))))
