# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Res2Net-101 (26w x 4s) through timm: 43.17 M parameters with 8 classes."""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='res2net101_26w_4s',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
