# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DKD++: DKD, and features of the right length and direction."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(
    connectors=dict(loss_nd=dict(
        type='hkd_mm.RegressorConnector', norm=False, norm_first=True)),
    distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
        loss_dkd=dict(type='hkd_mm.DKDLoss', tau=4.0, alpha=0.5, beta=8.0),
        loss_nd=dict(type='hkd_mm.NormDirectionLoss', loss_weight=1.0))))
default_hooks = dict(warm_up=dict(
    type='hkd_mm.LossScheduleHook', loss='loss_dkd', start=0.0,
    until=20, of=240))
