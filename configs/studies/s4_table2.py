# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DSP-KD (Bioengineering 11:70, 2024), table 2: three teachers, ISIC 2019.

Minutes of DSP-KD are those of its second stage; the first has a row.

At size small: ResNet-18 -> MobileNetV2 x0.5 on HAM10000 at 64 x 64, beside
the paper's figures of Res2Net-101.
"""
title = 'Methods and teachers: DSP-KD, table 2'
metrics = ['top1', 'balanced_accuracy', 'macro_f1']
baselines = ['alone']

_pairs = dict(
    res2net101=('Res2Net-101', 'res2net101', 0.9259),
    convnext_base=('ConvNeXt-B', 'convnext_base', 0.9021),
    effb4=('EfficientNet-B4', 'efficientnet_b4', 0.8954))
_methods = dict(
    kd=('KD', 0.8739, 0.8698, 0.872),
    wsld=('WSLD', 0.8777, 0.8683, 0.8738),
    fitnets=('FitNets', 0.8813, 0.8755, 0.8685),
    mgd=('MGD', 0.8854, 0.8801, 0.8792),
    eml=('EML', 0.8792, 0.8895, 0.8834),
    ssdkd=('SSD-KD', 0.8995, 0.8823, 0.8812),
    dspkd=('DSP-KD', 0.9283, 0.8939, 0.8901))

_stage1 = 'mgd_hf_res2net101_shufflenetv2_isic2019'
rows = dict(alone=dict(
    config='dspkd/shufflenetv2_isic2019.py',
    title='student alone',
    paper=dict(top1=0.8621)))
for _place, (_pair, (_network, _config, _top1)) in enumerate(_pairs.items()):
    # a folder a teacher: what a method builds on lies beside it
    rows[f'{_pair}/{_config}_isic2019'] = dict(
        config=f'dspkd/{_config}_isic2019.py',
        title=f'teacher, {_network}',
        tested=False,
        paper=dict(top1=_top1))
    # the first stage of DSP-KD, which finds it beside itself
    rows[f'{_pair}/{_stage1}'] = dict(
        config=f'dspkd/{_stage1}.py',
        title=f'DSP-KD, stage 1, {_network}',
        options=dict(pair=f'{_pair}_shufflenetv2_isic2019'),
        after=[f'{_pair}/{_config}_isic2019'])
    for _name, (_title, *_accuracies) in _methods.items():
        rows[f'{_pair}/{_name}'] = dict(
            config=f'dspkd/{_name}_res2net101_shufflenetv2_isic2019.py',
            title=f'{_title}, {_network}',
            options=dict(pair=f'{_pair}_shufflenetv2_isic2019'),
            after=[f'{_pair}/{_config}_isic2019'] + (
                [f'{_pair}/{_stage1}'] if _name == 'dspkd' else []),
            paper=dict(top1=_accuracies[_place]))

_small = {
    'pair': 'resnet18_mbv2_ham10000_64',
    'packed': True,
    'packed.store_dir': '{work_dir}/images',
    'max_epochs': 12}
_changes = {
    name: None for name in rows if not name.startswith('res2net101/')}
_teacher = {'model.teacher_ckpt': '{runs}/res2net101/resnet18/student.pth'}
for _name, (_title, *_) in _methods.items():
    _taught = {} if _name == 'eml' else _teacher  # peers have no teacher
    _changes[f'res2net101/{_name}'] = dict(
        title=_title,
        options={**_small, **_taught},
        after=['res2net101/resnet18'])
_changes[f'res2net101/{_stage1}'] = dict(
    title='DSP-KD, stage 1',
    options={**_small, **_teacher},
    after=['res2net101/resnet18'])
_changes['res2net101/dspkd'].update(
    title='DSP-KD (12 + 12 epochs)',
    after=['res2net101/resnet18', f'res2net101/{_stage1}'])
_changes['res2net101/res2net101_isic2019'] = None
_changes['alone'] = dict(
    config='ham10000_64/mbv2.py',
    title='student alone (24 epochs)',
    options={
        'packed': True,
        'packed.store_dir': '{work_dir}/images',
        'max_epochs': 24,
        'optim_wrapper.optimizer.lr': 0.02})
_changes['res2net101/resnet18'] = dict(
    config='ham10000_64/resnet18.py',
    title='teacher, ResNet-18 (16 epochs)',
    options={
        'packed': True,
        'packed.store_dir': '{work_dir}/images',
        'max_epochs': 16},
    tested=False,
    paper=rows['res2net101/res2net101_isic2019']['paper'])
sizes = dict(small=dict(
    title='Methods of DSP-KD, table 2, on HAM10000 at 64 x 64',
    rows=_changes))
