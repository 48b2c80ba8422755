# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Soft masks and the last map of the encoders, beside Dice + BCE."""
_base_ = 'kd_unet-r152_unet-r18_lidc.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_align=dict(type='hkd_mm.FitNetLoss', loss_weight=0.1))))
