# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""U-Net with a ResNet-18 encoder alone: 14.32 M parameters."""
_base_ = '_base_run.py'

pretrained = False  # True starts encoders from ImageNet weights
model = dict(
    type='hkd_mm.SMPSegmentor', arch='Unet', encoder_name='resnet18',
    pretrained=pretrained)
