# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ResNet-152 through timm: 58.16 M parameters with 6 classes."""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='resnet152',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
