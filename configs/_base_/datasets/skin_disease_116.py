# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Skin photographs at 116 x 116 as in Hybrid KD (INFOS 8(2), 2025), section 3.

A data root holds class folders, train/val/test folders of class folders, or
images with an annotations.csv (image,label[,lesion_id]).
"""
data_root = 'data/skin_disease'
classes = None  # None: Acne, Benign, Eczema, Infectious, Malignant, Pigment
input_size = 116
batch_size = 64
split_file = None  # None: drawn once and kept under work_dirs/splits
split_ratios = (0.8, 0.1, 0.1)
split_seed = 42  # apart from the seed of the training: same split for all

dataset_type = 'hkd_mm.SkinDisease'
data_preprocessor = dict(
    mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], to_rgb=True)

_meta_keys = ('sample_idx', 'sample_id', 'img_path', 'ori_shape', 'img_shape')
train_pipeline = [
    dict(type='hkd_mm.LoadSkinImage'),
    dict(type='Resize', scale=(input_size, input_size), interpolation='area'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3,
         hue=0.05),
    # The angle is uniform in [-10, 10]: 'inf' draws the magnitude uniformly.
    dict(type='Rotate', magnitude_level=10, magnitude_range=(0, 10),
         magnitude_std='inf', prob=1.0, random_negative_prob=0.5,
         pad_val=(128, 128, 128),  # a bare 128 fills the blue channel alone
         interpolation='bilinear'),
    dict(type='PackInputs', meta_keys=_meta_keys),
]
test_pipeline = [
    dict(type='hkd_mm.LoadSkinImage'),
    dict(type='Resize', scale=(input_size, input_size), interpolation='area'),
    dict(type='PackInputs', meta_keys=_meta_keys),
]

_dataset = dict(
    type=dataset_type, data_root=data_root, classes=classes,
    split_file=split_file, split_ratios=split_ratios, seed=split_seed)
_loader = dict(
    batch_size=batch_size, num_workers=2, persistent_workers=False,
    worker_init_fn=dict(type='hkd_mm.seed_worker'),
    collate_fn=dict(type='default_collate'))
train_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**_dataset, split='train', pipeline=train_pipeline))
val_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**_dataset, split='val', pipeline=test_pipeline))
test_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**_dataset, split='test', pipeline=test_pipeline))

val_evaluator = [dict(type='hkd_mm.ClinicalMetric')]
test_evaluator = [dict(type='hkd_mm.ClinicalMetric')]
val_cfg = dict()
test_cfg = dict()
del _dataset, _loader, _meta_keys
