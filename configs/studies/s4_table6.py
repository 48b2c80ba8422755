# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DSP-KD (Bioengineering 11:70, 2024), table 6: accuracy and cost.

The paper's parameters of the distilled nets (1.13 M, 1.09 M) are below those
of the student that is distilled (1.262 M), which distillation does not
change; results.json has the parameters and multiply-accumulates of ours.
Minutes of DSP-KD are those of its second stage; the first has a row.
"""
title = 'Accuracy and cost, Res2Net-101 -> ShuffleNetV2: DSP-KD, table 6'
metrics = ['top1', 'balanced_accuracy']
baselines = ['shufflenetv2_isic2019']

_after = ['res2net101_isic2019']
_stage1 = 'mgd_hf_res2net101_shufflenetv2_isic2019'
rows = dict(
    res2net101_isic2019=dict(
        config='dspkd/res2net101_isic2019.py', title='teacher, Res2Net-101',
        tested=False, paper=dict(top1=0.9259)),
    shufflenetv2_isic2019=dict(
        config='dspkd/shufflenetv2_isic2019.py', title='ShuffleNetV2 alone',
        paper=dict(top1=0.8621)),
    ssdkd=dict(
        config='dspkd/ssdkd_res2net101_shufflenetv2_isic2019.py',
        title='SSD-KD', after=_after, paper=dict(top1=0.8995)),
    **{_stage1: dict(
        config=f'dspkd/{_stage1}.py', title='DSP-KD, stage 1',
        after=_after)},
    dspkd=dict(
        config='dspkd/dspkd_res2net101_shufflenetv2_isic2019.py',
        title='DSP-KD', after=[*_after, _stage1], paper=dict(top1=0.9283)),
)
