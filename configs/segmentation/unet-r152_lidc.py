# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""U-Net with a ResNet-152 encoder alone: 67.15 M parameters."""
_base_ = '_base_run.py'

pretrained = False  # True starts encoders from ImageNet weights
model = dict(
    type='hkd_mm.SMPSegmentor', arch='Unet', encoder_name='resnet152',
    pretrained=pretrained)
