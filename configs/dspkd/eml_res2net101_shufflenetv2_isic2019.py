# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EML, two peers and a branch: 87.92 % in the paper."""
_base_ = '../_base_/pairs/res2net101_shufflenetv2_isic2019.py'
model = dict(
    type='hkd_mm.MutualDistill',
    teacher=None,
    teacher_cache=None,
    peers=dict(large=dict(_base_.model.teacher, pretrained=True)),
    branch=dict(type='hkd_mm.EmbeddedBranch'),
    distiller=dict(distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss'),
        loss_kl=dict(type='hkd_mm.KLLoss', tau=3.0),
        loss_map=dict(type='hkd_mm.FitNetLoss', loss_weight=0.02))))
