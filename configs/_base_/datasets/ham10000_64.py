# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""HAM10000 at 64 x 64, for benchmarks on a CPU; augmented as Hybrid KD.

Decoding dominates at this size: tools/dataset_tools/resize_images.py makes a
copy of the data root with small PNG files.
"""
_base_ = './ham10000_116.py'

input_size = 64
train_pipeline = [
    dict(step, scale=(64, 64)) if step['type'] == 'Resize' else step
    for step in _base_.train_pipeline
]
test_pipeline = [
    dict(step, scale=(64, 64)) if step['type'] == 'Resize' else step
    for step in _base_.test_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
