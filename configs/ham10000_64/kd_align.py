# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""KD + feature alignment, 64 x 64 benchmark."""
_base_ = 'hybrid.py'
model = dict(distiller=dict(
    distill_losses=dict(loss_hybrid=dict(alpha=1.0, beta=0.02))))
