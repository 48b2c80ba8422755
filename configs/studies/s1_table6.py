# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hybrid KD (INFOS 8(2), 2025), table 6: the teachers alone.

At size small: the teacher of the 64 x 64 benchmark, on HAM10000, beside the
paper's WideResNet-50-2, which has its place in table 8.
"""
title = 'Teachers alone: Hybrid KD, table 6'
metrics = ['top1', 'top5', 'balanced_accuracy', 'macro_f1', 'parameters']


def _teacher(name, title, top1, top5, minutes, parameters):
    return dict(
        config=f'teachers/{name}_skin.py',
        title=title,
        paper=dict(
            top1=top1, top5=top5, minutes=minutes, parameters=parameters))


rows = dict(
    darknet53=_teacher('darknet53', 'DarkNet-53', 0.6579, 0.97, 82.82, 40.59),
    resnet152=_teacher(
        'resnet152', 'ResNet-152', 0.6524, 0.9619, 170.56, 58.16),
    repvit=_teacher('repvit_m2_3', 'RepViT-M2.3', 0.6465, 0.9587, 41.9, 22.41),
    effb3=_teacher(
        'efficientnet_b3', 'EfficientNet-B3', 0.8151, 0.9788, 114.37, 10.71),
    effb5=_teacher(
        'efficientnet_b5', 'EfficientNet-B5', 0.6662, 0.9691, 222.08, 28.35),
    wrn50=_teacher('wrn50', 'WideResNet-50-2', 0.8771, 0.9854, 191.04, 66.85),
    wrn101=_teacher(
        'wrn101', 'WideResNet-101-2', 0.8844, 0.9908, 364.2, 124.85),
)

_left_out = dict.fromkeys(rows)
sizes = dict(small=dict(rows={
    **_left_out,
    'resnet18': dict(
        config='ham10000_64/resnet18.py',
        title='ResNet-18 at 64 x 64',
        options=dict(packed=True, max_epochs=16),
        paper=rows['wrn50']['paper'])}))
