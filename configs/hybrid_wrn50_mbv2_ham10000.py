# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The main job on real images: Hybrid KD on HAM10000, 7 classes, 116 x 116.

python tools/train.py THIS_FILE --cfg-options data_root=PATH
"""
_base_ = 'hybrid_wrn50_mbv2.py'
teacher_config = 'teachers/wrn50_ham10000.py'

data_root = 'data/ham10000'
classes = ['akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc']
dataset_type = 'hkd_mm.HAM10000'
_loader = dict(dataset=dict(dataset=dict(
    type=dataset_type, data_root=data_root, classes=classes)))
train_dataloader = _loader
val_dataloader = _loader
test_dataloader = _loader
del _loader

model = dict(
    architecture=dict(num_classes=7), teacher=dict(num_classes=7))
