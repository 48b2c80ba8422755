# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ShuffleNetV1 x1.0, 3 groups: 0.91 M parameters with 8 classes.

timm has no such network; the ImageNet weights are mmpretrain's (68.13 %
top-1).
"""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.ImageClassifier',
    backbone=dict(
        type='hkd_mm.ShuffleNetV1',
        groups=3,
        out_indices=(0, 1, 2),  # for methods that take several maps
        pretrained=pretrained),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=6,
        in_channels=960,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
