# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ISIC 2019 (8 classes, dermoscopy) at 116 x 116, augmented as Hybrid KD."""
_base_ = './skin_disease_116.py'

data_root = 'data/isic2019'
classes = ['MEL', 'NV', 'BCC', 'AK', 'BKL', 'DF', 'VASC', 'SCC']
dataset_type = 'hkd_mm.ISIC2019'
_loader = dict(dataset=dict(dataset=dict(
    type=dataset_type, data_root=data_root, classes=classes)))
train_dataloader = _loader
val_dataloader = _loader
test_dataloader = _loader
del _loader
