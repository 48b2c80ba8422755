# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""HAM10000 at 64 x 64: the four variants, budgets, and the stock path.

ResNet-18 -> MobileNetV2 x0.5 from scratch, sized for a CPU. The student alone
has as many and four times as many epochs as a distilled one, and a learning
rate searched on validation (configs/sweeps/mbv2_lr_ham10000_64.py). Rows of
the stock path train on MMPretrain's pipeline with an online teacher.
"""
title = 'ResNet-18 -> MobileNetV2 x0.5 on HAM10000 at 64 x 64'
baselines = ['alone_48', 'kd']
roles = dict(teacher='teacher', alone='alone_48', distilled='hybrid_24')

_packed = {'packed': True, 'packed.store_dir': '{work_dir}/images'}
_alone = {'optim_wrapper.optimizer.lr': 0.02}
_taught = {'model.teacher_ckpt': '{runs}/teacher/student.pth'}
_cached = {
    **_packed,
    **_taught,
    'model.teacher_cache.num_views': 12,
    'model.teacher_cache.dir': '{work_dir}/cache'}


def _row(name, title, epochs, options, after=()):
    return dict(
        config=f'ham10000_64/{name}.py',
        title=f'{title} ({epochs} epochs)',
        options={**options, 'max_epochs': epochs},
        after=after)


def _distilled(name, title, epochs, options=_cached):
    return _row(name, title, epochs, options, after=['teacher'])


rows = dict(
    teacher=dict(_row('resnet18', 'teacher, ResNet-18', 16, {}), tested=False),
    alone_12=_row('mbv2', 'student alone', 12, {**_packed, **_alone}),
    alone_24=_row('mbv2', 'student alone', 24, {**_packed, **_alone}),
    alone_48=_row('mbv2', 'student alone', 48, {**_packed, **_alone}),
    kd=_distilled('kd', 'KD', 12),
    kd_hard=_distilled('kd_hard', 'KD + hard label', 12),
    kd_align=_distilled('kd_align', 'KD + feature alignment', 12),
    hybrid=_distilled('hybrid', 'Hybrid KD', 12),
    hybrid_24=_distilled('hybrid', 'Hybrid KD', 24),
    stock_alone=_row('mbv2', 'student alone, stock path', 24, _alone),
    stock_hybrid=_distilled('hybrid', 'Hybrid KD, stock path', 12, _taught),
)
