# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The teacher of the 64 x 64 benchmark."""
_base_ = '_base_run.py'

pretrained = False
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='resnet18',
    num_classes=7,
    pretrained=pretrained,
    loss=dict(
        type='CrossEntropyLoss', class_weight={{_base_.class_weight}}))
