# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The teacher of the 64 x 64 benchmark."""
_base_ = '_base_run.py'

model = dict(
    type='hkd_mm.TimmClassifier', model_name='resnet18', num_classes=7,
    loss=dict(type='CrossEntropyLoss', class_weight='sqrt_balanced'))
