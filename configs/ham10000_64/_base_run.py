# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What all networks of the 64 x 64 HAM10000 benchmark share.

Everything starts from scratch. Every cross-entropy carries weights between
none and balanced (square root), as 67 of 100 images are of one class.
"""
_base_ = [
    '../_base_/datasets/ham10000_64.py',
    '../_base_/schedules/scratch_sgd.py',
    '../_base_/default_runtime.py',
]
class_weight = 'sqrt_balanced'  # counted on the training split
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
