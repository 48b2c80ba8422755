# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""USKD: soft labels made of the scores themselves."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(
    type='hkd_mm.SelfDistill', teacher=None, teacher_cache=None,
    distiller=dict(distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
        loss_uskd=dict(type='hkd_mm.USKDLoss', alpha=1.0, beta=0.1))))
