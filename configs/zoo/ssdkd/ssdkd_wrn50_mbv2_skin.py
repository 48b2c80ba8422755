# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""SSD-KD: dual relations, and self-supervision by rotated images."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
class_weight = 'balanced'  # counted on the training split
model = dict(
    type='hkd_mm.RotationDistill',
    teacher_cache=None,  # four turns of an image a step
    all_views=['loss_dual'],
    distiller=dict(distill_losses=dict(
        loss_ce=dict(
            type='hkd_mm.HardLabelLoss', class_weight=class_weight,
            loss_weight=0.1),
        loss_kd=dict(type='hkd_mm.KLLoss', tau=4.0, loss_weight=0.9),
        loss_dual=dict(
            type='hkd_mm.SSDKDLoss', alpha=0.0, beta=1.0, gamma=1000.0),
        loss_rotation=dict(
            type='hkd_mm.SSDKDRotationLoss', tau=4.0, alpha=2.7, beta=10.0))))
