# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the networks trained alone share: 100 epochs, else as distilled."""
_base_ = './_base_run.py'
max_epochs = 100
_warm_up, _cosine = _base_.param_scheduler
param_scheduler = [
    _warm_up, dict(_cosine, end=max_epochs, T_max=max_epochs - 20)]
train_cfg = dict(max_epochs=max_epochs)
del _warm_up, _cosine
