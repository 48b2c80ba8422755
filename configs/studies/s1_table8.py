# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hybrid KD (INFOS 8(2), 2025), table 8: the four variants.

WideResNet-50-2 -> MobileNetV2 x0.5. The teacher and the student alone, of
tables 6 and 7, are here to compare with. At size small: ResNet-18 ->
MobileNetV2 x0.5 from scratch on HAM10000 at 64 x 64, under two hours for
three seeds on two cores.
"""
title = 'WideResNet-50-2 -> MobileNetV2 x0.5: Hybrid KD, table 8'
metrics = [
    'top1', 'top5', 'balanced_accuracy', 'macro_f1', 'macro_auroc',
    'parameters', 'gflops', 'milliseconds']
baselines = ['alone', 'kd']
roles = dict(teacher='teacher', alone='alone', distilled='hybrid')

_taught = {'model.teacher_ckpt': '{runs}/teacher/student.pth'}


def _variant(name, title, top1, top5, minutes):
    return dict(
        config=f'{name}_wrn50_mbv2.py',
        title=title,
        options=_taught,
        after=['teacher'],
        paper=dict(top1=top1, top5=top5, minutes=minutes))


rows = dict(
    teacher=dict(
        config='teachers/wrn50_skin.py',
        title='teacher',
        tested=False,
        paper=dict(top1=0.8771, top5=0.9854, minutes=191.04)),
    alone=dict(
        config='students/mbv2_skin.py',
        title='student alone',
        paper=dict(top1=0.385, top5=0.978, minutes=54.42)),
    kd=_variant('kd', 'KD', 0.8146, 0.9952, 124.16),
    kd_hard=_variant('kd_hard', 'KD + hard label', 0.8198, 0.9959, 124.2),
    kd_align=_variant(
        'kd_align', 'KD + feature alignment', 0.8131, 0.9944, 124.25),
    hybrid=_variant('hybrid', 'Hybrid KD', 0.8207, 0.988, 125.08),
)

_small = {'packed': True, 'packed.store_dir': '{work_dir}/images'}
_cached = {
    **_small,
    **_taught,
    'max_epochs': 12,
    'model.teacher_cache.num_views': 12,
    'model.teacher_cache.dir': '{work_dir}/cache'}
sizes = dict(small=dict(
    title='ResNet-18 -> MobileNetV2 x0.5 at 64 x 64, HAM10000',
    rows=dict(
        teacher=dict(
            config='ham10000_64/resnet18.py',
            title='teacher (16 epochs)',
            options={**_small, 'max_epochs': 16}),
        alone=dict(
            config='ham10000_64/mbv2.py',
            title='student alone (24 epochs)',
            options={
                **_small,
                'max_epochs': 24,
                'optim_wrapper.optimizer.lr': 0.02}),
        kd=dict(config='ham10000_64/kd.py', options=_cached),
        kd_hard=dict(config='ham10000_64/kd_hard.py', options=_cached),
        kd_align=dict(config='ham10000_64/kd_align.py', options=_cached),
        hybrid=dict(config='ham10000_64/hybrid.py', options=_cached))))
