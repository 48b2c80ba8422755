# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-B0 alone, as in Hybrid KD (INFOS 8(2), 2025).

The paper trains it as a student: 69.22 / 97.55 / 149.86 there.
"""
_base_ = [
    '../_base_/models/efficientnet_b0.py',
    '../_base_/datasets/skin_disease_116.py',
    '../_base_/schedules/hybrid_kd_sgd_100e.py',
    '../_base_/default_runtime.py',
]
