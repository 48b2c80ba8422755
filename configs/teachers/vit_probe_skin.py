# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A linear probe: the last layer alone, on frozen features of DINOv2 S."""
_base_ = './vit_finetune_skin.py'
model = dict(frozen=True)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
