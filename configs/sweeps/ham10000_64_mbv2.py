# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The learning rate of MobileNetV2 x0.5 alone on HAM10000 at 64 x 64."""
title = 'MobileNetV2 x0.5 alone: learning rate'
config = 'ham10000_64/mbv2.py'
sampler = 'grid'
space = {'optim_wrapper.optimizer.lr': [0.01, 0.02, 0.05, 0.1]}
options = {'max_epochs': 6}
