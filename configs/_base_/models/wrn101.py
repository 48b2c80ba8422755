# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Wide ResNet-101-2 through timm: 124.85 M parameters with 6 classes."""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='wide_resnet101_2',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
