# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The learning rate of each method of configs/studies/ham10000_64_zoo.py.

Chosen on validation, at ratio 1 to the cross-entropy, with the epochs of the
study; ham10000_64_zoo_alone.py is the same search for the student alone.
Give the teacher: model.teacher_ckpt=....
"""
title = 'Learning rates of the zoo at equal force'
configs = {
    name: f'zoo/{name}/{name}_wrn50_mbv2_skin.py' for name in (
        'kd_hard', 'dkd', 'balanced_softmax', 'fitnets', 'vkd', 'rkd')}
sampler = 'grid'
space = {'optim_wrapper.optimizer.lr': [1e-3, 2e-3, 4e-3]}
options = {
    'pair': 'effnet_lite0_w045_ham10000_64',
    'loss_balance': 1.0,
    'max_epochs': 4,
    'model.teacher_cache.num_views': 4}
