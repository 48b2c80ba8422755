# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ShuffleNetV1 alone, 85.37 % in the paper."""
_base_ = ['../_base_/models/shufflenetv1.py', './_base_alone.py']
model = dict(head=dict(num_classes=8))
