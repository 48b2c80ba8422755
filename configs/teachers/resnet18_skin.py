# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ResNet-18 alone: a teacher that a machine without a GPU can train."""
_base_ = [
    '../_base_/models/resnet18.py',
    '../_base_/datasets/skin_disease_116.py',
    '../_base_/schedules/hybrid_kd_sgd_100e.py',
    '../_base_/default_runtime.py',
]
