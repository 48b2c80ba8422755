# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Adam, lr 1e-3 after one epoch of warm-up, cosine decay, 40 epochs."""
max_epochs = 40

optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.1, begin=0, end=1, by_epoch=True,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=max_epochs, eta_min=1e-6, begin=0,
        end=max_epochs, by_epoch=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
auto_scale_lr = dict(base_batch_size=8)
