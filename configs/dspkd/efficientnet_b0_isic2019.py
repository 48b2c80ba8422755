# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-B0 alone, 82.71 % in the paper."""
_base_ = ['../_base_/models/efficientnet_b0.py', './_base_alone.py']
model = dict(num_classes=8)
