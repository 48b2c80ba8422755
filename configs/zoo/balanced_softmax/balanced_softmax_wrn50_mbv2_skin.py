# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Balanced softmax, and KD from a teacher without its prior."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(
        type='hkd_mm.BalancedSoftmaxLoss', class_prior='train',
        loss_weight=1.0),
    loss_kd=dict(
        type='hkd_mm.PriorCorrectedKLLoss', class_prior='train', tau=4.0,
        loss_weight=1.0))))
