# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""SGD of DSP-KD (Bioengineering 11:70, 2024, section 4.2).

The paper gives: momentum 0.9, weight decay 5e-4, 120 epochs distilled (100
alone, set beside the networks), 20 epochs of linear warm-up from 1e-3, then
cosine decay to 1e-5. It does not give, and we chose: the peak, 0.01 for 32
images a step, and steps by iteration, so that both ends are met. A run of 20
epochs or fewer sees the warm-up alone.
"""
max_epochs = 120

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.1,
        begin=0,
        end=20,
        by_epoch=True,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=20,
        end=max_epochs,
        T_max=max_epochs - 20,
        eta_min=1e-5,
        by_epoch=True,
        convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
auto_scale_lr = dict(base_batch_size=32)
