# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ConvNeXt-B through timm: 87.57 M parameters with 8 classes."""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='convnext_base',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
