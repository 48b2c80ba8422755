# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the U-Nets on CT slices share; the best Dice on validation counts."""
_base_ = [
    '../_base_/datasets/lidc_256.py',
    '../_base_/schedules/segmentation_adam_40e.py',
    '../_base_/default_runtime.py',
]
pretrained = False  # True starts encoders from ImageNet weights

default_hooks = dict(checkpoint=dict(save_best='dice'))
custom_hooks = [
    dict(hook, monitor='dice')
    if hook['type'] == 'hkd_mm.ResumableEarlyStoppingHook' else hook
    for hook in _base_.custom_hooks
] + [
    dict(type='hkd_mm.ViewHook'),
    dict(type='hkd_mm.WindowCheckHook'),
    dict(type='hkd_mm.VanishedMasksHook'),
]
