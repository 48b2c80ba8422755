# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The learning rate of the teacher on generated nodules."""
title = 'U-Net, ResNet-18, on generated nodules: learning rate'
config = 'segmentation/unet-r18_lidc.py'
sampler = 'grid'
space = {'optim_wrapper.optimizer.lr': [0.001, 0.002, 0.004, 0.01]}
options = {
    'input_size': 64,
    'batch_size': 16,
    'max_epochs': 30,
    'data_preprocessor.window': [424, 1500],
}
