# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Born-again: the teacher is the same network, trained before."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
teacher_config = {{_base_.student_config}}  # trained first
model = dict(
    teacher=dict(_base_.model.architecture, _delete_=True),
    distiller=dict(distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
        loss_kd=dict(type='hkd_mm.KLLoss', tau=1.0, loss_weight=1.0))))
