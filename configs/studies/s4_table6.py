# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DSP-KD (Bioengineering 11:70, 2024), table 6: accuracy and cost.

The paper's parameters and seconds of the distilled networks (1.13 M and 0.072
s, 1.09 M and 0.023 s) differ from those of the student that is distilled
(1.262 M, 0.046 s), which distillation does not change; of what its seconds are
it does not say. Ours are of one image in torch on this machine's cores:
compare their ratios. The row wide-ShuffleNet (85.48 %, 1.8 M, 0.101 s) is
another paper's network, which is not here. Minutes of DSP-KD are those of its
second stage; the first has a row.

At size small: ResNet-18 -> MobileNetV2 x0.5 on HAM10000 at 64 x 64.
"""
title = 'Accuracy and cost, Res2Net-101 -> ShuffleNetV2: DSP-KD, table 6'
metrics = ['top1', 'balanced_accuracy', 'parameters', 'milliseconds']
baselines = ['alone']

_after = ['res2net101_isic2019']
_stage1 = 'mgd_hf_res2net101_shufflenetv2_isic2019'


def _paper(top1, parameters, seconds):
    return dict(
        top1=top1,
        parameters=parameters,
        milliseconds=round(seconds * 1000, 1))


rows = dict(
    res2net101_isic2019=dict(
        config='dspkd/res2net101_isic2019.py', title='teacher, Res2Net-101',
        tested=False, paper=_paper(0.9259, 43.174, 0.297)),
    alone=dict(
        config='dspkd/shufflenetv2_isic2019.py', title='ShuffleNetV2 alone',
        paper=_paper(0.8621, 1.262, 0.046)),
    ssdkd=dict(
        config='dspkd/ssdkd_res2net101_shufflenetv2_isic2019.py',
        title='SSD-KD', after=_after, paper=_paper(0.8995, 1.13, 0.072)),
    **{_stage1: dict(
        config=f'dspkd/{_stage1}.py', title='DSP-KD, stage 1',
        after=_after)},
    dspkd=dict(
        config='dspkd/dspkd_res2net101_shufflenetv2_isic2019.py',
        title='DSP-KD', after=[*_after, _stage1],
        paper=_paper(0.9283, 1.09, 0.023)),
)

_images = {'packed': True, 'packed.store_dir': '{work_dir}/images'}
_taught = {
    **_images,
    'pair': 'resnet18_mbv2_ham10000_64',
    'max_epochs': 12,
    'model.teacher_ckpt': '{runs}/resnet18/student.pth'}
_small = dict(options=_taught, after=['resnet18'])
sizes = dict(small=dict(
    title='Accuracy and cost, HAM10000 at 64 x 64: DSP-KD, table 6',
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
            title='MobileNetV2 x0.5 alone (24 epochs)',
            options={
                **_images,
                'max_epochs': 24,
                'optim_wrapper.optimizer.lr': 0.02}),
        ssdkd=_small,  # four views of an image: no cache of the teacher
        **{_stage1: _small},  # a cache of all its maps would be too large
        dspkd=dict(
            title='DSP-KD (12 + 12 epochs)',
            after=['resnet18', _stage1],
            options={
                **_taught,
                'model.student_ckpt': f'{{runs}}/{_stage1}/student.pth',
                'model.teacher_cache.num_views': 12,
                'model.teacher_cache.dir': '{work_dir}/cache'}))))
