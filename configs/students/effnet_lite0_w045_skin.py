# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-Lite0 x0.45 alone, from weights selected of Lite0."""
_base_ = [
    '../_base_/models/effnet_lite0_w045.py',
    '../_base_/datasets/skin_disease_116.py',
    '../_base_/schedules/hybrid_kd_sgd_100e.py',
    '../_base_/default_runtime.py',
]
