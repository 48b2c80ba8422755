# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Which method, and which learning rate: a search that ends weak trials."""
title = 'Method and learning rate'
configs = dict(
    kd='zoo/kd/kd_wrn50_mbv2_skin.py',
    kd_hard='zoo/kd_hard/kd_hard_wrn50_mbv2_skin.py',
    dist='zoo/dist/dist_wrn50_mbv2_skin.py',
    dkd='zoo/dkd/dkd_wrn50_mbv2_skin.py',
    hybrid='hybrid_wrn50_mbv2.py')
sampler = 'tpe'
trials = 30
pruner = dict(type='median', n_startup_trials=6, n_warmup_steps=5)
space = {
    'optim_wrapper.optimizer.lr': dict(low=0.005, high=0.2, log=True),
}
