# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Res2Net-101 alone: a teacher, 92.59 % in the paper."""
_base_ = ['../_base_/models/res2net101.py', './_base_alone.py']
model = dict(num_classes=8)
