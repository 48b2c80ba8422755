# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MGD: 88.54 % in the paper."""
_base_ = '../_base_/pairs/res2net101_shufflenetv2_isic2019.py'
model = dict(distiller=dict(
    connectors=dict(loss_mgd=dict(
        type='hkd_mm.MGDConnector', mask='places', ratio=0.65)),
    distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
        loss_mgd=dict(  # 7e-5 on the sum over 2048 * 7 * 7
            type='hkd_mm.MGDLoss', loss_weight=7.02))))
