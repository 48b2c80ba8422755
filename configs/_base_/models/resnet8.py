# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ResNet-8, CIFAR style (6n + 2 layers, n = 1): 0.08 M parameters.

Nobody publishes ImageNet weights for it: it always starts from scratch,
and ``pretrained`` is refused.
"""
model = dict(
    type='hkd_mm.ImageClassifier',
    backbone=dict(
        type='hkd_mm.CIFARResNet',
        depth=8,
        out_indices=(0, 1, 2)),  # for methods that take several maps
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=6,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
