# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The learning rate of the student alone, searched as ham10000_64_zoo.py."""
title = 'EfficientNet-Lite0 x0.45 alone: learning rate'
config = 'ham10000_64/effnet_lite0_w045.py'
sampler = 'grid'
space = {'optim_wrapper.optimizer.lr': [5e-4, 1e-3, 2e-3, 4e-3]}
options = {'max_epochs': 4}
