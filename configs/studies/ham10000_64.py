# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""HAM10000 at 64 x 64: the student alone and the four variants, one recipe.

ResNet-18 -> MobileNetV2 x0.5 from scratch, sized for a CPU. Every row: SGD,
batch 64, one epoch of warm-up, cosine decay, 20 epochs, an augmentation that
is new in every epoch, root-balanced class weights in every cross-entropy, and
a learning rate searched on validation with the same grid and epochs
(configs/sweeps/ham10000_64_*.py): one search for the student alone (0.02),
one for soft targets (0.05), one for soft targets with features (0.02).
`alone_kd` is the student alone at the rate of the soft targets. All students
learn from one teacher, that of seed 0.
"""
title = 'ResNet-18 -> MobileNetV2 x0.5 on HAM10000 at 64 x 64'
baselines = ['alone', 'kd']
roles = dict(teacher='teacher', alone='alone', distilled='hybrid')

_epochs = 20
_packed = {'packed.store_dir': '{work_dir}/images'}
_cached = {
    **_packed,
    'max_epochs': _epochs,
    'model.teacher_ckpt': '{work_dir}/seed0/teacher/student.pth',
    'model.teacher_cache.num_views': _epochs,
    'model.teacher_cache.dir': '{work_dir}/cache'}
_rate = 'optim_wrapper.optimizer.lr'
_rates = dict(alone=0.02, kd=0.05, hybrid=0.02)  # chosen on validation


def _alone(title, family):
    return dict(
        config='ham10000_64/mbv2.py',
        title=title,
        options={**_packed, 'max_epochs': _epochs, _rate: _rates[family]})


def _distilled(name, title, family):
    return dict(
        config=f'ham10000_64/{name}.py',
        title=title,
        options={**_cached, _rate: _rates[family]},
        after=['teacher'])


rows = dict(
    teacher=dict(
        config='ham10000_64/resnet18.py',
        title='teacher, ResNet-18 (20 epochs)',
        options={**_packed, 'max_epochs': 20},
        tested=False,
        seeds=1),
    alone=_alone('student alone', 'alone'),
    kd_hard=_distilled('kd_hard', 'KD + hard label', 'kd'),
    hybrid=_distilled('hybrid', 'Hybrid KD', 'hybrid'),
    alone_kd=_alone('student alone, lr of KD', 'kd'),
    kd=_distilled('kd', 'KD', 'kd'),
    kd_align=_distilled('kd_align', 'KD + feature alignment', 'hybrid'),
)
