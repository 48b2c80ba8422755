# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The learning rate of KD + hard label on HAM10000 at 64 x 64."""
title = 'KD + hard label: learning rate'
config = 'ham10000_64/kd_hard.py'
sampler = 'grid'
space = {'optim_wrapper.optimizer.lr': [0.01, 0.02, 0.05, 0.1]}
options = {
    'max_epochs': 6,
    'model.teacher_cache.num_views': 20}
