# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""HAM10000 at 64 x 64, for benchmarks on a CPU; augmented as Hybrid KD."""
_base_ = './ham10000_116.py'

input_size = 64
_loader = dict(dataset=dict(size=input_size))
train_dataloader = _loader
val_dataloader = _loader
test_dataloader = _loader
del _loader
