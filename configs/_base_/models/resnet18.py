# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ResNet-18 through timm: 11.18 M parameters, a teacher for small machines."""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='resnet18',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
