# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DSP-KD, first stage: MGD with HF mask, plus the plain feature loss."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
    loss_hf=dict(type='hkd_mm.MGDHFLoss', alpha=1.756, beta=1.756, phi=0.5))))
