# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""WKD-L: what it costs to move a belief to similar classes."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_wkd=dict(
        type='hkd_mm.WKDLogitLoss', tau=2.0, alpha=1.0, beta=30.0))))
default_hooks = dict(decay=dict(
    type='hkd_mm.LossScheduleHook', loss='loss_wkd', word='beta',
    kind='cosine', end=0.0, until=100, of=100))
