# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""RLD: what a wrong teacher says is left out."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_rld=dict(
        type='hkd_mm.RLDLoss', tau=4.0, tau_top=4.0, alpha=1.0, beta=8.0))))
default_hooks = dict(warm_up=dict(
    type='hkd_mm.LossScheduleHook', loss='loss_rld', start=0.0,
    until=20, of=240))
