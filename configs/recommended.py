# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The recipe for a small network on any folder of skin photographs.

EfficientNet-Lite0 -> the same at width 0.45 (0.88 M parameters), both from
ImageNet weights (tools/model_converters/efficientnet_lite.py 0); soft targets
are the teacher's average over eight flips and quarter turns; both losses are
without the class prior, for balanced accuracy.
"""
_base_ = [
    '_base_/datasets/skin_disease_112_d4.py',
    '_base_/schedules/adamw_onecycle.py',
    '_base_/default_runtime.py',
]
teacher_config = 'teachers/effnet_lite0_recommended.py'
student_config = 'students/effnet_lite0_w045_recommended.py'

pretrained = True
model = dict(
    type='hkd_mm.FrozenTeacherDistill',
    teacher_ckpt=None,
    teacher_cache=dict(average='d4'),  # one answer an image, for all its views
    architecture=dict(
        type='hkd_mm.TimmClassifier',
        model_name='efficientnet_lite0_w045',
        select_from='tf_efficientnet_lite0',
        num_classes=6,
        pretrained=pretrained),
    teacher=dict(
        type='hkd_mm.TimmClassifier',
        model_name='tf_efficientnet_lite0',
        num_classes=6,
        pretrained=False),
    distiller=dict(
        type='mmrazor.ConfigurableDistiller',
        distill_losses=dict(
            loss_ce=dict(
                type='hkd_mm.BalancedSoftmaxLoss', class_prior='train',
                loss_weight=0.1),
            loss_kd=dict(  # of the teacher's sqrt_balanced half is left
                type='hkd_mm.PriorCorrectedKLLoss', class_prior='train',
                strength=0.5, tau=2.0, loss_weight=0.9))))
