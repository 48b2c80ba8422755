# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ISIC 2019 at 224 x 224, augmented as Hybrid KD."""
_base_ = './isic2019_116.py'

input_size = 224
train_pipeline = [
    dict(step, scale=(224, 224)) if step['type'] == 'Resize' else step
    for step in _base_.train_pipeline
]
test_pipeline = [
    dict(step, scale=(224, 224)) if step['type'] == 'Resize' else step
    for step in _base_.test_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
