# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hybrid KD: soft targets + hard label + features, 64 x 64 benchmark."""
_base_ = '../_base_/pairs/resnet18_mbv2_ham10000_64.py'
model = dict(distiller=dict(distill_losses=dict(loss_hybrid=dict(
    type='hkd_mm.HybridKDLoss', alpha=0.85, beta=0.02, tau=4.0,
    class_weight={{_base_.class_weight}}))))
