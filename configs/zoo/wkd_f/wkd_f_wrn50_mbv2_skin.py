# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""WKD-F: the moments of the last map."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(
    connectors=dict(loss_wkd=dict(type='hkd_mm.RegressorConnector')),
    distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
        loss_wkd=dict(  # the paper's 0.02 * 512 channels
            type='hkd_mm.WKDFeatureLoss', ratio=2.0, grid=1,
            loss_weight=10.0))))
default_hooks = dict(decay=dict(
    type='hkd_mm.LossScheduleHook', loss='loss_wkd', kind='cosine',
    end=0.0, until=100, of=100))
