"""Hybrid KD: soft targets, hard label, features (paper, table 8: 82.07).

python tools/train.py THIS_FILE --cfg-options data_root=PATH
"""
_base_ = '_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(
    connectors=dict(align=dict(type='hkd_mm.FeatureAlignConnector')),
    distill_losses=dict(loss_hybrid=dict(
        type='hkd_mm.HybridKDLoss', alpha=0.85, beta=0.02, tau=4.0)),
    loss_forward_mappings=dict(loss_hybrid=dict(
        preds_S=dict(recorder='logits', from_student=True),
        preds_T=dict(recorder='logits', from_student=False),
        gt_labels=dict(recorder='labels', from_student=True),
        s_feature=dict(
            recorder='feature', from_student=True, connector='align'),
        t_feature=dict(recorder='feature', from_student=False)))))
