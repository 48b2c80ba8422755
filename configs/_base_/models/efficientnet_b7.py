# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-B7 through timm: 63.81 M parameters with 8 classes."""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='tf_efficientnet_b7',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
