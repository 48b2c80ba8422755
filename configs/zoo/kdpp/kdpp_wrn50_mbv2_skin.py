# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""KD++: KD, and features of the right length and direction."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(
    connectors=dict(loss_nd=dict(
        type='hkd_mm.RegressorConnector', norm=False, norm_first=True)),
    distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
        loss_kd=dict(type='hkd_mm.KLLoss', tau=4.0, loss_weight=3.0),
        loss_nd=dict(type='hkd_mm.NormDirectionLoss', loss_weight=0.5))))
default_hooks = dict(warm_up=dict(
    type='hkd_mm.LossScheduleHook', loss='loss_kd', start=0.0,
    until=20, of=240))
