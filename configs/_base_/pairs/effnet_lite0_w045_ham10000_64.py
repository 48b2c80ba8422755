# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-Lite0 -> the same at width 0.45 on HAM10000 at 64 x 64."""
_base_ = '../../ham10000_64/_base_lite.py'
teacher_config = 'ham10000_64/effnet_lite0.py'
student_config = 'ham10000_64/effnet_lite0_w045.py'

pretrained = True  # both start from ImageNet weights
model = dict(
    type='hkd_mm.FrozenTeacherDistill',
    teacher_ckpt=None,
    teacher_cache=dict(num_views=10),  # its outputs, kept on the disk
    input_size=64,
    architecture=dict(
        type='hkd_mm.TimmClassifier',
        model_name='efficientnet_lite0_w045',
        select_from='tf_efficientnet_lite0',
        num_classes=7,
        pretrained=pretrained),
    teacher=dict(
        type='hkd_mm.TimmClassifier',
        model_name='tf_efficientnet_lite0',
        num_classes=7,
        pretrained=False),
    distiller=dict(type='mmrazor.ConfigurableDistiller'))
