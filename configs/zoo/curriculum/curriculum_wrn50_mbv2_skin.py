# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""KD + hard label, images in the order of the teacher's confidence."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=0.9),
    loss_kl=dict(type='hkd_mm.KLLoss', tau=1.0, loss_weight=0.1))))
train_dataloader = dict(
    sampler=dict(_delete_=True, type='hkd_mm.CurriculumSampler', power=1.0))
default_hooks = dict(teacher_ranking=dict(type='hkd_mm.TeacherRankingHook'))
