# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Wide ResNet-50-2 through timm: 66.85 M parameters with 6 classes."""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='wide_resnet50_2',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
