# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hybrid KD: a map of alpha against the temperature.

The paper gives alpha = 0.85 and no temperature; beta stays at its 0.02.
"""
title = 'Hybrid KD: alpha and temperature'
config = 'hybrid_wrn50_mbv2.py'
sampler = 'grid'
space = {
    'model.distiller.distill_losses.loss_hybrid.alpha':
    [0.3, 0.5, 0.7, 0.85, 0.95],
    'model.distiller.distill_losses.loss_hybrid.tau': [1.0, 2.0, 4.0, 8.0],
}
