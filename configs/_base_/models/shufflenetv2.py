# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ShuffleNetV2 x1.0: 1.26 M parameters with 6 classes.

timm has no such network; the ImageNet weights are mmpretrain's (69.55 %
top-1).
"""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.ImageClassifier',
    backbone=dict(
        type='hkd_mm.ShuffleNetV2',
        widen_factor=1.0,
        out_indices=(0, 1, 2, 3),  # for methods that take several maps
        pretrained=pretrained),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=6,
        in_channels=1024,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
