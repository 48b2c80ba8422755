# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The schedule of Hybrid KD (INFOS 8(2), 2025, table 3).

The paper gives: SGD, lr 0.05, batch 32-96, 100 epochs, seed 42, early
stopping after 100. It does not give, and we chose: momentum 0.9, weight decay
1e-4 (both as ResNet on ImageNet), cosine decay to 0 over the whole run, no
warm-up, batch 64 (set beside the data).
"""
max_epochs = 100

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(
    type='CosineAnnealingLR',
    by_epoch=True,
    begin=0,
    end=max_epochs,
    T_max=max_epochs)
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)

# lr 0.05 belongs to 64 images a step over all processes; --auto-scale-lr
# scales it linearly where the batch differs.
auto_scale_lr = dict(base_batch_size=64)
