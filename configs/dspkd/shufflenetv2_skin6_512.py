# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ShuffleNetV2 alone: the student, 89.48 % in the paper."""
_base_ = ['../_base_/models/shufflenetv2.py', './_base_alone_skin6.py']
