# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""KD + hard label on mixed images: both networks see the same mixture."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
_student = _base_.model.architecture
data_preprocessor = dict(
    num_classes=_student.get('num_classes') or _student.head.num_classes,
    augment=[
        dict(type='hkd_mm.HorizontalFlip', prob=0.5),
        dict(type='hkd_mm.ColorJitter', brightness=0.3, contrast=0.3,
             saturation=0.3, hue=0.05),
        dict(type='hkd_mm.Rotate', degrees=10),
        dict(type='hkd_mm.CutMix', alpha=1.0, prob=0.5),
        dict(type='hkd_mm.Mixup', alpha=0.2, prob=0.5)])
del _student
model = dict(
    teacher_cache=None,  # mixtures depend on their batch
    distiller=dict(distill_losses=dict(
        loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=0.1),
        loss_kd=dict(type='hkd_mm.KLLoss', tau=4.0, loss_weight=0.9))))
