# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-B7 -> MobileNetV2 on ISIC 2019, as the curriculum study."""
_base_ = '../../curriculum/_base_run.py'
teacher_config = 'curriculum/effb7_isic2019.py'
student_config = 'curriculum/mbv2_isic2019.py'

pretrained = True  # the student's start: ImageNet weights
model = dict(
    type='hkd_mm.FrozenTeacherDistill',
    teacher_ckpt=None,
    teacher_cache=dict(num_views=10),  # its outputs, kept on the disk
    input_size=224,
    architecture=dict(
        type='hkd_mm.TimmClassifier',
        model_name='mobilenetv2_100',
        num_classes=8,
        pretrained=pretrained),
    teacher=dict(
        type='hkd_mm.TimmClassifier',
        model_name='tf_efficientnet_b7',
        num_classes=8,
        pretrained=False),
    distiller=dict(type='mmrazor.ConfigurableDistiller'))
