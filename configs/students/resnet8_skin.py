# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ResNet-8 alone, as in Hybrid KD (INFOS 8(2), 2025).

The paper's top-1 / top-5 / minutes, on its own images: 65.98 / 97.17 / 93.55.
"""
_base_ = [
    '../_base_/models/resnet8.py',
    '../_base_/datasets/skin_disease_116.py',
    '../_base_/schedules/hybrid_kd_sgd_100e.py',
    '../_base_/default_runtime.py',
]
