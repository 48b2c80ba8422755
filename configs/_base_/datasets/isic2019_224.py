# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ISIC 2019 at 224 x 224, augmented as Hybrid KD."""
_base_ = './isic2019_116.py'

input_size = 224
_loader = dict(dataset=dict(size=input_size))
train_dataloader = _loader
val_dataloader = _loader
test_dataloader = _loader
del _loader
