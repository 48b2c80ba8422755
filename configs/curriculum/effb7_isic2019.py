# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-B7 alone: the teacher, F1 77.65 in the study."""
_base_ = './_base_run.py'
pretrained = True
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='tf_efficientnet_b7',
    num_classes=8,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
