# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MobileNetV2 x1.0 through timm: 2.23 M parameters with 8 classes."""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='mobilenetv2_100',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
