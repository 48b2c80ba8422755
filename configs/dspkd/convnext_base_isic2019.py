# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ConvNeXt-B alone: a teacher, 90.21 % in the paper."""
_base_ = ['../_base_/models/convnext_base.py', './_base_alone.py']
model = dict(num_classes=8)
