# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A student of 0.88 M parameters alone, at 64 x 64: EfficientNet-Lite0 at
width 0.45, its start weights selected from ImageNet's Lite0."""
_base_ = '_base_lite.py'

pretrained = True
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='efficientnet_lite0_w045',
    select_from='tf_efficientnet_lite0',
    num_classes=7,
    pretrained=pretrained,
    loss=dict(
        type='CrossEntropyLoss', class_weight={{_base_.class_weight}}))
