# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the U-Nets on CT slices share; the best Dice on validation counts."""
_base_ = [
    '../_base_/datasets/lidc_256.py',
    '../_base_/schedules/segmentation_adam_40e.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(
    checkpoint=dict(save_best='dice'),
    early_stopping=dict(monitor='dice'),
    window_check=dict(type='hkd_mm.WindowCheckHook'),
    vanished_masks=dict(type='hkd_mm.MasksLostByResizeHook'))
