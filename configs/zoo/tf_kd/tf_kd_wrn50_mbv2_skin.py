# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tf-KD: a virtual teacher that is nearly sure of the label."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(
    type='hkd_mm.SelfDistill', teacher=None, teacher_cache=None,
    distiller=dict(distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=0.9),
        loss_tf=dict(
            type='hkd_mm.TfKDLoss', a=0.99, tau=20.0, loss_weight=0.1))))
