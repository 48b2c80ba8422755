"""Hybrid KD: soft targets + hard label + feature alignment (S1, table 8: top-1 82.07 on its own data).

python tools/train.py configs/hybrid_wrn50_mbv2.py --cfg-options data_root=PATH
"""
_base_ = '_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(
    type='mmrazor.ConfigurableDistiller',
    student_recorders=dict(
        logits=dict(type='hkd_mm.Logits'),
        labels=dict(type='hkd_mm.GTLabels'),
        feature=dict(type='hkd_mm.Feature')),
    teacher_recorders=dict(
        logits=dict(type='hkd_mm.Logits'),
        feature=dict(type='hkd_mm.Feature')),
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
