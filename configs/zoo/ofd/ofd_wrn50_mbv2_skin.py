# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Overhaul of feature distillation at the last stage, and the label."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(
    connectors=dict(loss_ofd=dict(type='hkd_mm.RegressorConnector')),
    distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss'),
        loss_ofd=dict(
            type='hkd_mm.OFDLoss',
            loss_weight=16.4))))  # the paper's 1e-3 * 256 * 8 * 8
