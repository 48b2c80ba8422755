# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""OFA's logit part: soft targets with more of the label."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_ofa=dict(type='hkd_mm.OFALoss', exponent=1.5, loss_weight=1.0))))
