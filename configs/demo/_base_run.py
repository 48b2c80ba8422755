# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the networks of the demo share: generated images, minutes on a CPU."""
_base_ = [
    '../_base_/datasets/demo_64.py', '../_base_/schedules/scratch_sgd.py',
    '../_base_/default_runtime.py'
]
split_ratios = (0.5, 0.15, 0.35)  # so few images: a test split that tells
batch_size = 32
_loader = dict(
    batch_size=batch_size, dataset=dict(
        dataset=dict(split_ratios=split_ratios)))
train_dataloader = _loader
val_dataloader = _loader
test_dataloader = _loader

max_epochs = 16
_warm_up, _cosine = _base_.param_scheduler
param_scheduler = [
    _warm_up, dict(_cosine, end=max_epochs, T_max=max_epochs - 1)]
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.01))
del _loader, _warm_up, _cosine
