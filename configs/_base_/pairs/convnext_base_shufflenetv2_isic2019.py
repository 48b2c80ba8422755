# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ConvNeXt-B -> ShuffleNetV2 on ISIC 2019, as DSP-KD."""
_base_ = './res2net101_shufflenetv2_isic2019.py'
teacher_config = 'dspkd/convnext_base_isic2019.py'
model = dict(teacher=dict(model_name='convnext_base'))
