# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A short schedule for networks that start from scratch.

SGD as in Hybrid KD (lr 0.05, batch 64), one epoch of linear warm-up, then
cosine decay to 0, both by iteration, since a short run has few epochs.
"""
max_epochs = 12

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.1,
        begin=0,
        end=1,
        by_epoch=True,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=1,
        end=max_epochs,
        T_max=max_epochs - 1,
        by_epoch=True,
        convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
auto_scale_lr = dict(base_batch_size=64)
