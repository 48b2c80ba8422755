# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MGD + hard label."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(
    connectors=dict(loss_mgd=dict(type='hkd_mm.MGDConnector', ratio=0.15)),
    distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
        loss_mgd=dict(  # the paper's 7e-5 * 512 * 7 * 7
            type='hkd_mm.MGDLoss', loss_weight=1.756))))
