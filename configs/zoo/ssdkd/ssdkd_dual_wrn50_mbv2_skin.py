# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""D-KD: the dual relations of SSD-KD without rotated images."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
class_weight = 'balanced'  # counted on the training split
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(
        type='hkd_mm.HardLabelLoss', class_weight=class_weight,
        loss_weight=0.5),
    loss_ssdkd=dict(
        type='hkd_mm.SSDKDLoss',
        tau=5.0,
        alpha=0.5,
        beta=1.0,
        gamma=1000.0))))
