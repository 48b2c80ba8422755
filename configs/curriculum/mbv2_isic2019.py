# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MobileNetV2 alone: the student, F1 72.66 in the study."""
_base_ = './_base_run.py'
pretrained = True
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='mobilenetv2_100',
    num_classes=8,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
