# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""KL with alpha of distillation and 1 - alpha of cross-entropy.

The alphas of the curriculum study, and finer around 0.1, where it found the
best one (its own finer values are not told). Chosen by validation accuracy,
by which its trainings stop too.
"""
title = 'KL: alpha'
config = 'curriculum/kl_effb7_mbv2_isic2019.py'
sampler = 'grid'
metric = 'top1'
space = dict(alpha=[0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.9])
options = {
    'model.distiller.distill_losses.loss_kl.loss_weight': '{alpha}',
    'model.distiller.distill_losses.loss_ce.loss_weight': '{1 - alpha}',
}
