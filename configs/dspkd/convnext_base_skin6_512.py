# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ConvNeXt-B alone: a teacher, 92.18 % in the paper, private images."""
_base_ = ['../_base_/models/convnext_base.py', './_base_alone_skin6.py']
