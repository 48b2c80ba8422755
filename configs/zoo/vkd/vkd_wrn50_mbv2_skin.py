# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""VkD: pooled features under an orthogonal projection, KD and the label."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(
    connectors=dict(loss_vkd=dict(type='hkd_mm.OrthogonalConnector')),
    distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=1.0),
        loss_kd=dict(type='hkd_mm.KLLoss', tau=1.0, loss_weight=1.0),
        loss_vkd=dict(type='hkd_mm.VkDLoss', loss_weight=1.0))))
