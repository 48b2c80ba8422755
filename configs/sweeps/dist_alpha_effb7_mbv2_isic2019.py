# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DIST with alpha of distillation and 1 - alpha of cross-entropy.

The alphas of the curriculum study.
Chosen by validation accuracy, by which its trainings stop too.
"""
title = 'DIST: alpha'
config = 'curriculum/dist_effb7_mbv2_isic2019.py'
sampler = 'grid'
metric = 'top1'
space = dict(alpha=[0.1, 0.3, 0.5, 0.7, 0.9])
options = {
    'model.distiller.distill_losses.loss_dist.loss_weight': '{alpha}',
    'model.distiller.distill_losses.loss_ce.loss_weight': '{1 - alpha}',
}
