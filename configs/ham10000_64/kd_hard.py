# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""KD + hard label, 64 x 64 benchmark."""
_base_ = 'hybrid.py'
model = dict(distiller=dict(
    distill_losses=dict(loss_hybrid=dict(alpha=0.85, beta=0.0))))
