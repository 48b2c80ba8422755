# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Generated lesion-like photographs at 64 x 64; no download, no meaning.

tools/data/make_demo_images.py writes them.
"""
_base_ = './skin_disease_116.py'

data_root = 'data/demo'
input_size = 64
_loader = dict(dataset=dict(
    size=input_size, dataset=dict(data_root=data_root)))
train_dataloader = _loader
val_dataloader = _loader
test_dataloader = _loader
del _loader
