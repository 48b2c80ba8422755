# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-B4 alone: a teacher, 91.23 % in the paper."""
_base_ = ['../_base_/models/efficientnet_b4.py', './_base_alone_skin6.py']
