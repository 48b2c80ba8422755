# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The student alone: the baseline of the 64 x 64 benchmark."""
_base_ = '_base_run.py'

model = dict(
    type='hkd_mm.TimmClassifier', model_name='mobilenetv2_050', num_classes=7)
# It needs more steps than the distilled one, whose targets say more: 12 epochs
# each for the learning-rate search, 30 for the runs that count.
