# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The learning rate of the student alone on generated nodules."""
title = 'MobileNetV3-small x0.5 alone on generated nodules: learning rate'
config = 'segmentation/unet-r18_lidc.py'
sampler = 'grid'
space = {
    'optim_wrapper.optimizer.lr': [0.001, 0.003, 0.006, 0.01, 0.02, 0.04]}
options = {
    'input_size': 64,
    'batch_size': 16,
    'max_epochs': 60,
    'data_preprocessor.window': [424, 1500],
    'model.encoder_name': 'tu-mobilenetv3_small_050',
    'model.decoder_channels': [64, 32, 16, 8, 8],
}
