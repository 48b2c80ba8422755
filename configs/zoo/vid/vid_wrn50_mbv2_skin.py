# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Variational information distillation, and the label."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(
    connectors=dict(loss_vid=dict(
        type='hkd_mm.StagesConnector',
        each=dict(type='hkd_mm.RegressorConnector', hidden=2, norm=False))),
    distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss'),
        loss_vid=dict(type='hkd_mm.VIDLoss', variance=5.0))))
