# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Wide ResNet-50-2 alone on HAM10000, the schedule of Hybrid KD."""
_base_ = [
    '../_base_/models/wrn50.py',
    '../_base_/datasets/ham10000_116.py',
    '../_base_/schedules/hybrid_kd_sgd_100e.py',
    '../_base_/default_runtime.py',
]
model = dict(num_classes=7)
