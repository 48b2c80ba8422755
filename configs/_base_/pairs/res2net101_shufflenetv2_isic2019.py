# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Res2Net-101 -> ShuffleNetV2 on ISIC 2019, as DSP-KD."""
_base_ = '../../dspkd/_base_run.py'
teacher_config = 'dspkd/res2net101_isic2019.py'
student_config = 'dspkd/shufflenetv2_isic2019.py'

pretrained = True  # the student's start: ImageNet weights
model = dict(
    type='hkd_mm.FrozenTeacherDistill',
    teacher_ckpt=None,
    teacher_cache=dict(num_views=10),  # its outputs, kept on the disk
    input_size=224,
    architecture=dict(
        type='hkd_mm.ImageClassifier',
        backbone=dict(
            type='hkd_mm.ShuffleNetV2',
            widen_factor=1.0,
            out_indices=(0, 1, 2, 3),  # for methods that take several maps
            pretrained=pretrained),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=8,
            in_channels=1024,
            loss=dict(type='CrossEntropyLoss', loss_weight=1.0))),
    teacher=dict(
        type='hkd_mm.TimmClassifier',
        model_name='res2net101_26w_4s',
        num_classes=8,
        pretrained=False),
    distiller=dict(type='mmrazor.ConfigurableDistiller'))
