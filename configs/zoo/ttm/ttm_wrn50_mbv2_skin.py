# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""TTM: the teacher is softened, the student is not."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_ttm=dict(type='hkd_mm.TTMLoss', gamma=0.1, loss_weight=45.0))))
