# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A vision transformer fine-tuned: DINOv2 S, or network=dinov3_base and so on.

Sizes that the patches (14 or 16) divide waste nothing: input_size=224.
"""
_base_ = [
    '../_base_/models/dinov2_small.py',
    '../_base_/datasets/skin_disease_116.py',
    '../_base_/schedules/adamw_30e.py',
    '../_base_/default_runtime.py',
]
