# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Attention maps of four stages of the encoders, beside Dice + BCE.

With the paper's weight AT is about as large as Dice + BCE in the first step.
"""
_base_ = '../_base_/pairs/unet-r152_unet-r18_lidc.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_mask=dict(type='hkd_mm.DiceBCELoss'),
    loss_at=dict(type='hkd_mm.ATLoss', beta=1000.0))))
