# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ABKD: the alpha-beta divergence in place of KL."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_abkd=dict(  # the authors' 32 over tau^2
        type='hkd_mm.ABKDLoss', tau=4.0, alpha=0.8, beta=0.3,
        loss_weight=2.0))))
