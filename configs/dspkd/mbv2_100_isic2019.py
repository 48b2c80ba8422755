# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MobileNetV2 alone, 86.34 % in the paper."""
_base_ = ['../_base_/models/mbv2_100.py', './_base_alone.py']
model = dict(num_classes=8)
