# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Six common skin diseases at 512 x 512, as the private set of DSP-KD.

Class folders: acne, melasma, rosacea, discoid lupus erythematosus, Ota nevus
and seborrhoeic dermatitis. The paper's images are not public.
"""
_base_ = './skin_disease_116.py'

data_root = 'data/skin6'
classes = ['ACNE', 'ME', 'ROS', 'DLE', 'ON', 'SD']
input_size = 512
train_pipeline = [
    dict(step, scale=(512, 512)) if step['type'] == 'Resize' else step
    for step in _base_.train_pipeline
]
test_pipeline = [
    dict(step, scale=(512, 512)) if step['type'] == 'Resize' else step
    for step in _base_.test_pipeline
]
_dataset = dict(data_root=data_root, classes=classes)
train_dataloader = dict(dataset=dict(**_dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**_dataset, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(**_dataset, pipeline=test_pipeline))
del _dataset
