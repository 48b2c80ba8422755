# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-B4 -> ShuffleNetV2 on ISIC 2019, as DSP-KD."""
_base_ = './res2net101_shufflenetv2_isic2019.py'
teacher_config = 'dspkd/efficientnet_b4_isic2019.py'
model = dict(teacher=dict(model_name='efficientnet_b4'))
