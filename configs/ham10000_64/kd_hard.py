# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""KD + hard label, 64 x 64 benchmark."""
_base_ = '../_base_/pairs/resnet18_mbv2_ham10000_64.py'
model = dict(distiller=dict(
    distill_losses=dict(loss_hybrid=dict(
        type='hkd_mm.HybridKDLoss', alpha=0.85, beta=0.0, tau=4.0)),
    loss_forward_mappings=dict(loss_hybrid=dict(
        preds_S=dict(recorder='logits', from_student=True),
        preds_T=dict(recorder='logits', from_student=False),
        gt_labels=dict(recorder='labels', from_student=True)))))
