# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Soft masks on generated nodules: how much they weigh, and the step size.

As many trials as nodules_alone.py has for the student alone.
"""
title = 'Soft masks on generated nodules: weight and learning rate'
config = 'segmentation/kd_unet-r152_unet-r18_lidc.py'
sampler = 'grid'
space = {
    'model.distiller.distill_losses.loss_kd.loss_weight':
    [0.03, 0.1, 0.3, 1.0],
    'optim_wrapper.optimizer.lr': [0.001, 0.003],
}
options = {
    'input_size': 64,
    'batch_size': 16,
    'max_epochs': 60,
    'data_preprocessor.window': [424, 1500],
    'model.architecture.encoder_name': 'tu-mobilenetv3_small_050',
    'model.architecture.decoder_channels': [64, 32, 16, 8, 8],
    'model.teacher.encoder_name': 'resnet18',
    'model.teacher_cache.num_views': 60,
    'model.teacher_cache.dir': '{work_dir}/cache',
}
