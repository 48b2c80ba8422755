# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How much soft masks weigh beside the true ones, on generated nodules.

The learning rate is that of nodules_alone.py. It needs a teacher, such as
that of configs/studies/nodules.py: --cfg-options model.teacher_ckpt=FILE.
"""
title = 'Soft masks on generated nodules: weight'
config = 'segmentation/kd_unet-r152_unet-r18_lidc.py'
sampler = 'grid'
space = {
    'model.distiller.distill_losses.loss_kd.loss_weight':
    [0.03, 0.1, 0.3, 1.0],
}
options = {
    'input_size': 64,
    'batch_size': 16,
    'max_epochs': 60,
    'optim_wrapper.optimizer.lr': 0.01,
    'data_preprocessor.window': [424, 1500],
    'model.architecture.encoder_name': 'tu-mobilenetv3_small_050',
    'model.architecture.decoder_channels': [64, 32, 16, 8, 8],
    'model.teacher.encoder_name': 'resnet18',
    'model.teacher_inference.dtype': 'bfloat16',
    'model.teacher_cache.num_views': 60,
    'model.teacher_cache.dir': '{work_dir}/cache',
}
