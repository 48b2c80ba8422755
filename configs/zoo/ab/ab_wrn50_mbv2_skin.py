# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Activation boundaries of the last stage, and the label."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(
    connectors=dict(loss_ab=dict(type='hkd_mm.RegressorConnector')),
    distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss'),
        loss_ab=dict(  # 3e-3 * 256 * 8 * 8 of the sum
            type='hkd_mm.ABLoss', margin=1.0, loss_weight=49.0))))
