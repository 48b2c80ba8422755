# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""HAM10000 (7 classes, dermoscopy) at 116 x 116, augmented as Hybrid KD."""
_base_ = './skin_disease_116.py'

data_root = 'data/ham10000'
classes = ['akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc']
dataset_type = 'hkd_mm.HAM10000'
_loader = dict(dataset=dict(dataset=dict(
    type=dataset_type, data_root=data_root, classes=classes)))
train_dataloader = _loader
val_dataloader = _loader
test_dataloader = _loader
del _loader
