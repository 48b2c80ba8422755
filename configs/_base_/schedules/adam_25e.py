# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Adam, lr 1e-5, weight decay 0.01, at most 25 epochs, constant rate.

As the curriculum study (EfficientNet-B7 -> MobileNetV2) trains both networks.
"""
max_epochs = 25

optim_wrapper = dict(
    optimizer=dict(type='Adam', lr=1e-5, weight_decay=0.01))
param_scheduler = []
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
auto_scale_lr = dict(base_batch_size=32)
