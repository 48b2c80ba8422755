# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The 64 x 64 benchmark from ImageNet weights: AdamW in one cycle."""
_base_ = '_base_run.py'

optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0))
