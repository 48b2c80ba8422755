# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""CT slices with nodule masks (LIDC-IDRI) at 256 x 256, packed at 16 bits.

A data root holds Image/<patient>/*.png, Mask/<patient>/*.png and, if the
data comes split, split_dataset.csv, as tools/data/convert_lidc.py
writes them.
"""
data_root = 'data/lidc'
ann_file = None  # None: split_dataset.csv, if it is there
image_col = split_col = None  # columns of another name
group_cols = None  # None: patient_id or patient, else lesion_id
classes = None  # None: background, nodule
input_size = 256
batch_size = 8
mask_threshold = 0.5  # probability from which a pixel is nodule
split_file = None  # None: drawn once and kept under work_dirs/splits
split_ratios = (0.8, 0.1, 0.1)
split_seed = 42

dataset_type = 'hkd_mm.LIDCNodule'
data_preprocessor = dict(
    type='hkd_mm.PackedMaskPreprocessor',
    window=None,  # whole range of 16 bits; (424, 1500) of HU + 1024
    mean=[127.5],
    std=[127.5],
    augment=[
        dict(type='hkd_mm.HorizontalFlip', prob=0.5),
        dict(type='hkd_mm.Rotate', degrees=15, fill=0),
        dict(type='hkd_mm.RandomScale', low=0.9, high=1.1, fill=0),
    ])

_dataset = dict(
    type=dataset_type, data_root=data_root, ann_file=ann_file,
    image_col=image_col, group_cols=group_cols, split_col=split_col,
    classes=classes,
    split_file=split_file, split_ratios=split_ratios, seed=split_seed)
_loader = dict(
    batch_size=batch_size, num_workers=0, persistent_workers=False,
    collate_fn=dict(type='hkd_mm.packed_collate'))
train_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='hkd_mm.PackedMasks', size=input_size,
        dataset=dict(**_dataset, split='train')))
val_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='hkd_mm.PackedMasks', size=input_size,
        dataset=dict(**_dataset, split='val')))
test_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='hkd_mm.PackedMasks', size=input_size,
        dataset=dict(**_dataset, split='test')))

val_evaluator = [
    dict(type='hkd_mm.SegmentationMetric', threshold=mask_threshold)]
test_evaluator = [
    dict(type='hkd_mm.SegmentationMetric', threshold=mask_threshold)]
val_cfg = dict()
test_cfg = dict()
del _dataset, _loader
