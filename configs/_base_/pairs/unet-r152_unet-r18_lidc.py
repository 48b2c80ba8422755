# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""U-Net ResNet-152 -> U-Net ResNet-18 on CT slices at 256 x 256."""
_base_ = '../../segmentation/_base_run.py'
teacher_config = 'segmentation/unet-r152_lidc.py'
student_config = 'segmentation/unet-r18_lidc.py'

pretrained = False  # both start from scratch
model = dict(
    type='hkd_mm.FrozenTeacherDistill',
    teacher_ckpt=None,
    input_size=256,
    architecture=dict(
        type='hkd_mm.SMPSegmentor', arch='Unet', encoder_name='resnet18',
        pretrained=pretrained),
    teacher=dict(
        type='hkd_mm.SMPSegmentor', arch='Unet', encoder_name='resnet152',
        pretrained=False),
    distiller=dict(type='mmrazor.ConfigurableDistiller'))
