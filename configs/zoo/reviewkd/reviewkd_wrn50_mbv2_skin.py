# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ReviewKD + hard label."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(
    connectors=dict(loss_review=dict(type='hkd_mm.ReviewKDConnector')),
    distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
        loss_review=dict(type='hkd_mm.ReviewKDLoss', loss_weight=8.0))))
default_hooks = dict(warm_up=dict(
    type='hkd_mm.LossScheduleHook', loss='loss_review', start=0.0,
    until=20, of=240))
