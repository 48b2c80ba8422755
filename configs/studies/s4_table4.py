# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DSP-KD (Bioengineering 11:70, 2024), table 4: F1 of each class."""
title = 'F1 of each class, Res2Net-101 -> ShuffleNetV2: DSP-KD, table 4'
baselines = ['kd']
compared_by = 'balanced_accuracy'

_classes = ('MEL', 'NV', 'BCC', 'AK', 'BKL', 'DF', 'VASC', 'SCC')
metrics = [*(f'{name}/f1' for name in _classes), 'macro_f1']


_stage1 = 'mgd_hf_res2net101_shufflenetv2_isic2019'


def _method(name, title, *percent):
    return dict(
        config=f'dspkd/{name}_res2net101_shufflenetv2_isic2019.py',
        title=title,
        after=['res2net101_isic2019'] + [_stage1] * (name == 'dspkd'),
        paper={
            key: round(value / 100, 4)
            for key, value in zip(metrics, percent)})


rows = dict(
    res2net101_isic2019=dict(
        config='dspkd/res2net101_isic2019.py', title='teacher',
        tested=False),
    kd=_method(
        'kd', 'KD', 86.31, 86.99, 79.13, 74.04, 78.56, 71.24, 75.91, 73.4,
        78.19),
    fitnets=_method(
        'fitnets', 'FitNets', 86.06, 87.58, 86.96, 78.37, 81.67, 75.21, 74.3,
        82.44, 81.57),
    ssdkd=_method(
        'ssdkd', 'SSD-KD', 87.69, 90.33, 88.21, 86.14, 85.87, 78.55, 83.07,
        88.32, 86.02),
    **{_stage1: dict(
        config=f'dspkd/{_stage1}.py', title='DSP-KD, stage 1',
        after=['res2net101_isic2019'])},
    dspkd=_method(
        'dspkd', 'DSP-KD', 90.2, 95.21, 93.0, 91.12, 91.66, 89.06, 87.86,
        92.66, 91.35),
)
