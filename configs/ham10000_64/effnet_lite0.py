# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A teacher from ImageNet weights: EfficientNet-Lite0 at 64 x 64."""
_base_ = '_base_lite.py'

pretrained = True
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='tf_efficientnet_lite0',
    num_classes=7,
    pretrained=pretrained,
    loss=dict(
        type='CrossEntropyLoss', class_weight={{_base_.class_weight}}))
