# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the distillations of DSP-KD share: data, schedule, augmentation.

ISIC 2019 at 224 x 224. The paper splits 8:2 and has no validation part; ours
is taken out of its 8, lesions kept together. Small classes are topped up
after the split, in training alone, by 1 to 3 of RandAugment's operations.
Paper silent, our choice: batch 32, ImageNet weights and statistics, classes
topped up to the largest, horizontal flips, hair removal on every image.
"""
_base_ = [
    '../_base_/datasets/isic2019_224.py',
    '../_base_/schedules/dspkd_sgd.py',
    '../_base_/default_runtime.py',
]
split_ratios = (0.7, 0.1, 0.2)
batch_size = 32
_loader = dict(
    batch_size=batch_size, dataset=dict(
        hair_removal=True, dataset=dict(split_ratios=split_ratios)))
train_dataloader = dict(
    batch_size=batch_size, dataset=dict(
        top_up='largest', hair_removal=True,
        dataset=dict(split_ratios=split_ratios)))
val_dataloader = _loader
test_dataloader = _loader
data_preprocessor = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    augment=[
        dict(type='hkd_mm.HorizontalFlip', prob=0.5),
        dict(type='hkd_mm.RandAugment', count=(1, 3), copies_only=True),
    ])
del _loader
