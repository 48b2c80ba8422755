# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DSP-KD (Bioengineering 11:70, 2024), table 7: the ablation, seven rows.

The paper's NKD is NormKD. At size small: ResNet-18 -> MobileNetV2 x0.5 on
HAM10000 at 64 x 64.
"""
title = 'Ablation of DSP-KD, table 7'
metrics = ['top1', 'balanced_accuracy', 'macro_f1', 'macro_auroc']
baselines = ['alone']

_stage1 = 'mgd_hf_res2net101_shufflenetv2_isic2019'  # as the stages call it
_methods = dict(
    mgd=('S + MGD', 0.8854, 'mgd'),
    **{_stage1: ('S + MGD + HF (stage 1)', 0.9089, 'mgd_hf')},
    kd=('S + KD', 0.8739, 'kd'),
    normkd=('S + NormKD (stage 2)', 0.8828, 'normkd'),
    mgd_hf_kd=('S + MGD + HF + KD', 0.9147, 'mgd_hf_kd'),
    dspkd=('S + MGD + HF + NormKD (DSP-KD)', 0.9283, 'dspkd'))

rows = dict(
    res2net101_isic2019=dict(
        config='dspkd/res2net101_isic2019.py', title='teacher, Res2Net-101',
        tested=False, paper=dict(top1=0.9259)),
    alone=dict(
        config='dspkd/shufflenetv2_isic2019.py', title='ShuffleNetV2 (S)',
        paper=dict(top1=0.8621)))
for _name, (_title, _top1, _file) in _methods.items():
    rows[_name] = dict(
        config=f'dspkd/{_file}_res2net101_shufflenetv2_isic2019.py',
        title=_title,
        after=['res2net101_isic2019'] + (
            [_stage1] if _name in ('mgd_hf_kd', 'dspkd') else []),
        paper=dict(top1=_top1))

_images = {'packed': True, 'packed.store_dir': '{work_dir}/images'}
_changes = {
    name: dict(
        options={
            **_images,
            'pair': 'resnet18_mbv2_ham10000_64',
            'max_epochs': 12,
            'model.teacher_ckpt': '{runs}/resnet18/student.pth'},
        after=['resnet18'] + rows[name]['after'][1:])
    for name in _methods}
sizes = dict(small=dict(
    title='Ablation of DSP-KD on HAM10000 at 64 x 64',
    rows=dict(
        resnet18=dict(
            config='ham10000_64/resnet18.py',
            title='teacher, ResNet-18 (16 epochs)',
            options={**_images, 'max_epochs': 16},
            tested=False,
            paper=rows['res2net101_isic2019']['paper']),
        res2net101_isic2019=None,
        alone=dict(
            config='ham10000_64/mbv2.py',
            title='MobileNetV2 x0.5 (S, 24 epochs)',
            options={
                **_images,
                'max_epochs': 24,
                'optim_wrapper.optimizer.lr': 0.02}),
        **_changes)))
