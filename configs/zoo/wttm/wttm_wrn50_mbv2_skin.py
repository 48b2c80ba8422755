# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""WTTM: TTM, and certain teachers are heard less."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_ttm=dict(  # the paper's 4 * 100^0.8 classes
        type='hkd_mm.TTMLoss', weighted=True, gamma=0.2, loss_weight=159.0))))
