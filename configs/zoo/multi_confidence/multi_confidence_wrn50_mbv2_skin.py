# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Two teachers, each image weighed by who knows its label."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(
    type='hkd_mm.MultiTeacherDistill',
    teacher=None,
    teacher_cache=None,  # the fusion looks at the label as well
    teachers=[
        dict(_base_.model.teacher, ckpt=None),
        dict(_base_.model.teacher, model_name='resnet152', ckpt=None)],
    fusion='confidence',
    fusion_tau=4.0,
    distiller=dict(distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
        loss_kd=dict(type='hkd_mm.KLLoss', tau=4.0, loss_weight=1.0))))
