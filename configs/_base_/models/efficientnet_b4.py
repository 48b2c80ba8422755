# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-B4 through timm: 17.56 M parameters with 8 classes."""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='efficientnet_b4',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
