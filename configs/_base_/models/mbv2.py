# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MobileNetV2 x0.5 through timm: 0.70 M parameters with 6 classes."""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='mobilenetv2_050',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
