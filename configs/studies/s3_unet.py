# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""U-Net on CT slices: teacher, student alone, distilled, by Dice.

The paper's figures are of its whole LIDC-IDRI; its split, its term of
distillation and what its seconds are of are not known. At size small:
ResNet-34 -> ResNet-18 at 96 x 96, which two cores can bear, with a learning
rate for as few steps; at 64 x 64 one in six nodules is less than half a pixel.
"""
title = 'U-Net, ResNet-152 -> ResNet-18, nodules in CT slices'
baselines = ['alone']
compared_by = 'dice'
metrics = [
    'dice', 'patient_dice', 'hd95', 'parameters', 'gflops', 'milliseconds']

_taught = {'model.teacher_ckpt': '{runs}/teacher/student.pth'}


def _distilled(name, title, paper=None):
    return dict(
        config=f'segmentation/{name}_unet-r152_unet-r18_lidc.py',
        title=title,
        options=_taught,
        after=['teacher'],
        paper=paper or {})


rows = dict(
    teacher=dict(
        config='segmentation/unet-r152_lidc.py',
        title='teacher, ResNet-152',
        tested=False,
        paper=dict(dice=0.6043, milliseconds=4630)),
    alone=dict(
        config='segmentation/unet-r18_lidc.py',
        title='student alone, ResNet-18',
        paper=dict(dice=0.5546)),
    kd=_distilled('kd', 'soft masks', dict(dice=0.6782, milliseconds=1620)),
    kd_align=_distilled('kd_align', 'soft masks + feature alignment'),
    cwd=_distilled('cwd', 'channel-wise'),
    at=_distilled('at', 'attention transfer'),
)

_small = {'input_size': 96, 'optim_wrapper.optimizer.lr': 0.004}
_taught_small = {
    **_small, **_taught, 'model.teacher.encoder_name': 'resnet34'}
sizes = dict(small=dict(
    title='U-Net, ResNet-34 -> ResNet-18 at 96 x 96',
    rows=dict(
        teacher=dict(
            title='teacher, ResNet-34',
            options={**_small, 'model.encoder_name': 'resnet34'}),
        alone=dict(options=_small),
        kd=dict(options=_taught_small),
        kd_align=dict(options=_taught_small),
        cwd=dict(options=_taught_small),
        at=dict(options=_taught_small))))
