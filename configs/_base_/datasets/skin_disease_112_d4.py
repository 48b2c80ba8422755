# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Skin photographs at 112 x 112 that have no upper side, as dermoscopic ones:
every flip and quarter turn is as likely as any other."""
_base_ = './skin_disease_116.py'

input_size = 112
data_preprocessor = dict(augment=[
    dict(type='hkd_mm.HorizontalFlip', prob=0.5),
    dict(type='hkd_mm.VerticalFlip', prob=0.5),
    dict(type='hkd_mm.Rotate90'),
    dict(type='hkd_mm.ColorJitter', brightness=0.2, contrast=0.2,
         saturation=0.2, hue=0.02),
])
_loader = dict(dataset=dict(size=input_size))
train_dataloader = _loader
val_dataloader = _loader
test_dataloader = _loader
del _loader
