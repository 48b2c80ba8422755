# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""BYOT: shallow classifiers learn from the deepest."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(
    type='hkd_mm.SelfDistill', teacher=None, teacher_cache=None,
    distiller=dict(distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
        loss_byot=dict(
            type='hkd_mm.BYOTLoss', alpha=0.3, beta=0.03, tau=3.0))))
