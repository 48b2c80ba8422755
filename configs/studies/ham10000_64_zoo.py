# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The zoo on HAM10000 at 64 x 64: ResNet-18 -> MobileNetV2 x0.5, from scratch.

Methods of all families with their papers' weights and 12 epochs each (two
stages: 12 each), against plain KD and against the student alone, which gets
24 epochs and a learning rate searched on validation.
"""
title = 'The zoo on HAM10000 at 64 x 64'
baselines = ['mbv2', 'kd']
compared_by = 'balanced_accuracy'

_distilled = {
    'pair': 'resnet18_mbv2_ham10000_64',
    'packed': True,
    'packed.store_dir': '{work_dir}/images',
    'max_epochs': 12,
}
_online = {**_distilled, 'model.teacher_ckpt': '{runs}/resnet18/student.pth'}
_cached = {
    **_online,
    'model.teacher_cache.num_views': 12,
    'model.teacher_cache.dir': '{work_dir}/cache',
}


def _zoo(name, title, options, after=('resnet18',), file=None):
    """A method of configs/zoo."""
    return dict(
        config=f'zoo/{name}/{file or name}_wrn50_mbv2_skin.py',
        title=title,
        options=options,
        after=after)


rows = dict(
    resnet18=dict(
        config='ham10000_64/resnet18.py',
        title='teacher, ResNet-18 (16 epochs)',
        options=dict(max_epochs=16),
        tested=False),
    mbv2=dict(
        config='ham10000_64/mbv2.py',
        title='student alone (24 epochs)',
        options={
            'packed': True,
            'packed.store_dir': '{work_dir}/images',
            'max_epochs': 24,
            'optim_wrapper.optimizer.lr': 0.02}),
    kd=_zoo('kd', 'KD', _cached),
    kd_hard=_zoo('kd_hard', 'KD + hard label', _cached),
    dist=_zoo('dist', 'DIST', _cached),
    dkd=_zoo('dkd', 'DKD', _cached),
    logit_std=_zoo('logit_std', 'logit standardisation', _cached),
    normkd=_zoo('normkd', 'NormKD', _cached),
    fitnets=_zoo('fitnets', 'FitNets', _cached),
    at=_zoo('at', 'attention transfer', _cached),
    mgd=_zoo('mgd', 'MGD', _cached),
    # called as the first stage of dspkd calls it, which finds it there
    dspkd_stage1_wrn50_mbv2_skin=_zoo(
        'dspkd', 'MGD + HF mask (DSP-KD, stage 1)', _online,
        file='dspkd_stage1'),
    dspkd=_zoo(
        'dspkd', 'DSP-KD (12 + 12 epochs)', _online,
        after=('resnet18', 'dspkd_stage1_wrn50_mbv2_skin')),
    mgd_hf_kd=dict(
        config='dspkd/mgd_hf_kd_res2net101_shufflenetv2_isic2019.py',
        title='MGD + HF mask, then KD (12 + 12 epochs)',
        options={
            **_cached,
            'model.student_ckpt':
                '{runs}/dspkd_stage1_wrn50_mbv2_skin/student.pth'},
        after=('resnet18', 'dspkd_stage1_wrn50_mbv2_skin')),
    sp=_zoo('sp', 'SP', _cached),
    rkd=_zoo('rkd', 'RKD', _cached),
    balanced_sampler=_zoo(
        'balanced_sampler', 'KD + hard label, balanced sampler', _cached),
    curriculum=_zoo('curriculum', 'KD, teacher-ranked curriculum', _cached),
    tf_kd=_zoo('tf_kd', 'Tf-KD', _distilled, after=()),
    born_again=_zoo(
        'born_again', 'born-again', {
            **_distilled, 'model.teacher_ckpt': '{runs}/mbv2/student.pth'},
        after=('mbv2',)),
    dml=_zoo('dml', 'DML', _distilled, after=()),
    second=dict(
        config='ham10000_64/resnet18.py',
        title='second teacher, ResNet-18 (16 epochs)',
        options=dict(max_epochs=16, packed=True, seed='10{seed}'),
        tested=False),
    multi_average=_zoo(
        'multi_average', 'two teachers, averaged', {
            **_distilled,
            'model.teachers.0.ckpt': '{runs}/resnet18/student.pth',
            'model.teachers.1.ckpt': '{runs}/second/student.pth',
            'model.teachers.1.model_name': 'resnet18'},
        after=('resnet18', 'second')),
)
