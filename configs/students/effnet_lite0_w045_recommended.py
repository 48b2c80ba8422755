# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The student of configs/recommended.py alone."""
_base_ = [
    '../_base_/datasets/skin_disease_112_d4.py',
    '../_base_/schedules/adamw_onecycle.py',
    '../_base_/default_runtime.py',
]
pretrained = True
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='efficientnet_lite0_w045',
    select_from='tf_efficientnet_lite0',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', class_weight='sqrt_balanced'))
