# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Generated lesion-like photographs at 64 x 64; no download, no meaning.

tools/dataset_tools/make_demo_images.py writes them.
"""
_base_ = './skin_disease_116.py'

data_root = 'data/demo'
classes = ['Acne', 'Benign', 'Infectious', 'Malignant', 'Pigment']
input_size = 64
train_pipeline = [
    dict(step, scale=(64, 64)) if step['type'] == 'Resize' else step
    for step in _base_.train_pipeline
]
test_pipeline = [
    dict(step, scale=(64, 64)) if step['type'] == 'Resize' else step
    for step in _base_.test_pipeline
]
_dataset = dict(data_root=data_root, classes=classes)
train_dataloader = dict(dataset=dict(**_dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**_dataset, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(**_dataset, pipeline=test_pipeline))
del _dataset
