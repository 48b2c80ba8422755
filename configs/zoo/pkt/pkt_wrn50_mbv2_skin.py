# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""PKT: probabilities of being neighbours."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_pkt=dict(  # 30000 / 64 images; the mean over N^2 entries falls, this not
        type='hkd_mm.PKTLoss', loss_weight=470.0))))
