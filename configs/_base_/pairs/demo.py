# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ResNet-18 -> MobileNetV2 x0.5 on generated images, from scratch."""
_base_ = '../../demo/_base_run.py'
teacher_config = 'demo/resnet18_demo.py'
student_config = 'demo/mbv2_demo.py'

pretrained = False  # both start from scratch
model = dict(
    type='hkd_mm.FrozenTeacherDistill',
    teacher_ckpt=None,
    teacher_cache=dict(num_views=10),  # its outputs, kept on the disk
    input_size=64,
    architecture=dict(
        type='hkd_mm.TimmClassifier',
        model_name='mobilenetv2_050',
        num_classes=5,
        pretrained=pretrained),
    teacher=dict(
        type='hkd_mm.TimmClassifier',
        model_name='resnet18',
        num_classes=5,
        pretrained=False),
    distiller=dict(type='mmrazor.ConfigurableDistiller'))
