# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DSP-KD, NormKD on the student of the first stage: 92.83 %."""
_base_ = '../_base_/pairs/res2net101_shufflenetv2_isic2019.py'
previous_stage_config = (
    'dspkd/mgd_hf_res2net101_shufflenetv2_isic2019.py')
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=0.1),
    loss_normkd=dict(type='hkd_mm.NormKDLoss', tau=2.0, loss_weight=0.9))))
