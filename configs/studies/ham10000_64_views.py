# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How many views a teacher cache should hold: 1 to 20, and online.

KD + hard label on HAM10000 at 64 x 64: with few views the student sees the
same augmented images again and the teacher is asked seldom; online every
epoch has a new view.
"""
title = 'Views of the teacher cache, HAM10000 at 64 x 64'
baselines = ['online']

_taught = {
    'max_epochs': 20,
    'packed': True,
    'packed.store_dir': '{work_dir}/images',
    'model.teacher_ckpt': '{runs}/teacher/student.pth'}


def _row(title, options):
    return dict(
        config='ham10000_64/kd_hard.py',
        title=title,
        options={**_taught, **options},
        after=['teacher'])


rows = dict(
    teacher=dict(
        config='ham10000_64/resnet18.py',
        title='teacher, ResNet-18',
        options=dict(max_epochs=16),
        tested=False),
    **{
        f'views_{count}': _row(
            f'{count} view{"s" * (count > 1)}',
            {
                'model.teacher_cache.num_views': count,
                'model.teacher_cache.dir': '{work_dir}/cache'})
        for count in (1, 2, 5, 10, 20)},
    online=_row('online', {}),
)
