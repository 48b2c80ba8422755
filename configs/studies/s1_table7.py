# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hybrid KD (INFOS 8(2), 2025), table 7: the students alone.

At size small: the student of the 64 x 64 benchmark, on HAM10000.
"""
title = 'Students alone: Hybrid KD, table 7'
metrics = ['top1', 'top5', 'balanced_accuracy', 'macro_f1', 'parameters']


def _student(name, title, top1, top5, minutes, parameters):
    return dict(
        config=f'students/{name}_skin.py',
        title=title,
        paper=dict(
            top1=top1, top5=top5, minutes=minutes, parameters=parameters))


rows = dict(
    mbv2=_student('mbv2', 'MobileNetV2 x0.5', 0.385, 0.978, 54.42, 0.69),
    resnet8=_student('resnet8', 'ResNet-8', 0.6598, 0.9717, 93.55, 0.08),
    shufflenetv2=_student(
        'shufflenetv2', 'ShuffleNetV2', 0.7886, 0.9875, 213.02, 1.26),
    effb0=_student(
        'efficientnet_b0', 'EfficientNet-B0', 0.6922, 0.9755, 149.86, 4.02),
)

sizes = dict(small=dict(rows={
    **dict.fromkeys(rows),
    'mbv2': dict(
        config='ham10000_64/mbv2.py',
        title='MobileNetV2 x0.5 at 64 x 64',
        options={
            'packed': True,
            'max_epochs': 24,
            'optim_wrapper.optimizer.lr': 0.02})}))
