# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MGD with the HF mask, the first stage of DSP-KD: 90.89 %."""
_base_ = '../_base_/pairs/res2net101_shufflenetv2_isic2019.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_hf=dict(type='hkd_mm.MGDHFLoss', alpha=7e-5, beta=7e-5, phi=0.5))))
