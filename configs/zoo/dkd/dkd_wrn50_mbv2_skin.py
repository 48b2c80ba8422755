# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DKD: target and non-target classes apart."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_dkd=dict(type='hkd_mm.DKDLoss', tau=4.0, alpha=1.0, beta=8.0))))
default_hooks = dict(warm_up=dict(
    type='hkd_mm.LossScheduleHook', loss='loss_dkd', start=0.0,
    until=20, of=240))
