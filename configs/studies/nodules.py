# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Does distillation help a segmentor of half a million weights?

On generated slices (tools/data/make_demo_slices.py), whose nodules
are easy, medium or hard to find: one data root a grade. U-Net, ResNet-18 ->
MobileNetV3-small x0.5, which two cores train in minutes. Learning rates and
the weight of the soft masks are those of configs/sweeps/nodules_*.py, chosen
on validation of the grade medium (hard wants its own; of the teacher with 30
epochs). The student alone has as many epochs as the distilled ones, and the
teacher cache as many views: no student sees a slice twice in the same way. The
teacher answers in bfloat16, which processors with AMX do faster.
"""
title = 'U-Net on generated nodules, 64 x 64'
baselines = ['alone', 'kd']
compared_by = 'dice'
metrics = ['dice', 'iou', 'sensitivity', 'precision', 'hd95', 'parameters']

_run = {
    'input_size': 64,
    'batch_size': 16,
    'max_epochs': 60,
    'data_preprocessor.window': [424, 1500],
    'optim_wrapper.optimizer.lr': 0.01,
}
_student = dict(
    encoder_name='tu-mobilenetv3_small_050',
    decoder_channels=[64, 32, 16, 8, 8])


def _network(place):
    return {f'{place}.{key}': value for key, value in _student.items()}


def _distilled(name, title, options=None):
    return dict(
        config=f'segmentation/{name}_unet-r152_unet-r18_lidc.py',
        title=title,
        options={
            **_run,
            **_network('model.architecture'),
            'model.teacher.encoder_name': 'resnet18',
            'model.teacher_ckpt': '{runs}/teacher/student.pth',
            'model.teacher_inference.dtype': 'bfloat16',
            'model.teacher_cache.num_views': 60,
            'model.teacher_cache.dir': '{work_dir}/cache',
            **(options or {})},
        after=['teacher'])


_soft = {'model.distiller.distill_losses.loss_kd.loss_weight': 0.1}

rows = dict(
    teacher=dict(
        config='segmentation/unet-r18_lidc.py',
        title='teacher, ResNet-18',
        options={**_run, 'max_epochs': 40},
        tested=False),
    alone=dict(
        config='segmentation/unet-r18_lidc.py',
        title='student alone, MobileNetV3-small x0.5',
        options={**_run, **_network('model')}),
    kd=_distilled('kd', 'soft masks', _soft),
    kd_align=_distilled('kd_align', 'soft masks + feature alignment', _soft),
    cwd=_distilled('cwd', 'channel-wise'),
)
