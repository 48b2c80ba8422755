# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DSP-KD: NormKD on the student of the first stage, same teacher."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
previous_stage_config = 'zoo/dspkd/dspkd_stage1_wrn50_mbv2_skin.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=0.1),
    loss_normkd=dict(type='hkd_mm.NormKDLoss', tau=2.0, loss_weight=0.9))))
