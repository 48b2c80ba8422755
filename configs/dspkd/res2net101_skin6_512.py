# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Res2Net-101 alone: a teacher, 94.66 % in the paper, private images."""
_base_ = ['../_base_/models/res2net101.py', './_base_alone_skin6.py']
