# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DML: the pair's teacher as a peer, both trained together."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(
    type='hkd_mm.MutualDistill',
    teacher=None,
    teacher_cache=None,
    peers=dict(large=dict(_base_.model.teacher, pretrained=_base_.pretrained)),
    distiller=dict(distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss'),
        loss_kl=dict(type='hkd_mm.KLLoss', tau=1.0))))
