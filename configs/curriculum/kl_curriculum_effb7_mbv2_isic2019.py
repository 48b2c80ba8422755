# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""KL with a teacher-ranked curriculum.

alpha = 0.1 of distillation, 0.9 of cross-entropy. Another alpha:
model.distiller.distill_losses.loss_ce.loss_weight=0.5, and the same of
loss_kl.
"""
_base_ = '../_base_/pairs/effb7_mbv2_isic2019.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=0.9),
    loss_kl=dict(type='hkd_mm.KLLoss', tau=1.0, loss_weight=0.1))))
train_dataloader = dict(
    sampler=dict(_delete_=True, type='hkd_mm.CurriculumSampler', power=1.0))
default_hooks = dict(teacher_ranking=dict(type='hkd_mm.TeacherRankingHook'))
