# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the networks of the curriculum study share: data, schedule, stopping.

ISIC 2019 at 224 x 224, 70:20:10, ImageNet statistics, classes drawn equally
often; the study does not tell its augmentation, here it is that of the other
bases. Early stopping after 5 epochs without a better validation accuracy; the
best checkpoint is the one of the best accuracy too.
"""
_base_ = [
    '../_base_/datasets/isic2019_224.py',
    '../_base_/schedules/adam_25e.py',
    '../_base_/default_runtime.py',
]
split_ratios = (0.7, 0.2, 0.1)
batch_size = 32
_loader = dict(
    batch_size=batch_size, dataset=dict(
        dataset=dict(split_ratios=split_ratios)))
train_dataloader = dict(
    sampler=dict(_delete_=True, type='hkd_mm.BalancedSampler'), **_loader)
val_dataloader = _loader
test_dataloader = _loader
data_preprocessor = dict(
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
patience = 5
default_hooks = dict(
    checkpoint=dict(save_best='top1'),
    early_stopping=dict(monitor='top1', patience=patience))
del _loader
