# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ShuffleNetV2 alone: the student, 86.21 % in the paper."""
_base_ = ['../_base_/models/shufflenetv2.py', './_base_alone.py']
model = dict(head=dict(num_classes=8))
