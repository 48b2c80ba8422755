"""Hybrid KD on generated images: minutes on two CPU cores, no download.

bash tools/quickstart.sh trains the teacher and the student alone as well.
"""
_base_ = './_base_run.py'
teacher_config = 'resnet18_demo.py'
model = dict(
    type='hkd_mm.FrozenTeacherDistill',
    teacher_ckpt=None,
    architecture=dict(
        type='hkd_mm.TimmClassifier', model_name='mobilenetv2_050',
        num_classes=5, pretrained=False),
    teacher=dict(
        type='hkd_mm.TimmClassifier', model_name='resnet18',
        num_classes=5, pretrained=False),
    distiller=dict(
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
