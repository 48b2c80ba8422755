# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Skin photographs at 116 x 116 as in Hybrid KD (INFOS 8(2), 2025), section 3.

A data root holds class folders, train/val/test folders of class folders, or
images with an annotations.csv (image,label[,lesion_id]). Photographs are
decoded and resized once and kept under work_dirs/packed; whole batches are
augmented on the model's device. ``packed=False`` reads them one by one with
mmpretrain's pipeline.
"""
data_root = 'data/skin_disease'
ann_file = None  # None: annotations.csv, if it is there
image_col = label_col = split_col = None  # columns of another name
group_cols = None  # None: lesion_id and patient_id stay in one part
classes = None  # None: the folders that are there
input_size = 116
batch_size = 64
split_file = None  # None: drawn once and kept under work_dirs/splits
split_ratios = (0.8, 0.1, 0.1)
split_seed = 42  # apart from the seed of the training: same split for all
packed = True

dataset_type = 'hkd_mm.SkinDisease'
data_preprocessor = dict(
    type='hkd_mm.PackedPreprocessor',
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    to_rgb=True,
    augment=[
        dict(type='hkd_mm.HorizontalFlip', prob=0.5),
        dict(type='hkd_mm.ColorJitter', brightness=0.3, contrast=0.3,
             saturation=0.3, hue=0.05),
        dict(type='hkd_mm.Rotate', degrees=10),
    ])

_dataset = dict(
    type=dataset_type, data_root=data_root, ann_file=ann_file,
    image_col=image_col, label_col=label_col, group_cols=group_cols,
    split_col=split_col, classes=classes,
    split_file=split_file, split_ratios=split_ratios, seed=split_seed)
_packed = dict(
    type='hkd_mm.PackedDataset', size=input_size, interpolation='area')
_loader = dict(
    batch_size=batch_size, num_workers=0, persistent_workers=False,
    collate_fn=dict(type='hkd_mm.packed_collate'))
train_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**_packed, dataset=dict(**_dataset, split='train')))
val_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**_packed, dataset=dict(**_dataset, split='val')))
test_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**_packed, dataset=dict(**_dataset, split='test')))

val_evaluator = [dict(type='hkd_mm.ClinicalMetric')]
test_evaluator = [dict(type='hkd_mm.ClinicalMetric')]
val_cfg = dict()
test_cfg = dict()
del _dataset, _packed, _loader
