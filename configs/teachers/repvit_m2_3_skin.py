# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""RepViT-M2.3 alone, as in Hybrid KD (INFOS 8(2), 2025).

The paper's top-1 / top-5 / minutes, on its own images: 64.65 / 95.87 / 41.90.
"""
_base_ = [
    '../_base_/models/repvit_m2_3.py',
    '../_base_/datasets/skin_disease_116.py',
    '../_base_/schedules/hybrid_kd_sgd_100e.py',
    '../_base_/default_runtime.py',
]
