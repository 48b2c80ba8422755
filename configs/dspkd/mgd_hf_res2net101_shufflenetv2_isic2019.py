# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MGD with the HF mask, the first stage of DSP-KD: 90.89 %."""
_base_ = '../_base_/pairs/res2net101_shufflenetv2_isic2019.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_hf=dict(  # 7e-5 on sums over 2048 * 7 * 7
        type='hkd_mm.MGDHFLoss', alpha=7.02, beta=7.02, phi=0.5))))
