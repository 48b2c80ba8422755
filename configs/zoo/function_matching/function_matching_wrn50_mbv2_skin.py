# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Function matching: KL alone on crops mixed with another training image's."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
_student = _base_.model.architecture
data_preprocessor = dict(
    num_classes=_student.get('num_classes') or _student.head.num_classes,
    partners='split',  # mixed views can then be cached
    augment=[
        dict(type='hkd_mm.RandomResizedCrop', scale=(0.05, 1.0)),
        dict(type='hkd_mm.HorizontalFlip', prob=0.5),
        dict(type='hkd_mm.Mixup', alpha=1.0, own_larger=True)])
del _student
model = dict(
    teacher_cache=dict(num_views=100),
    distiller=dict(distill_losses=dict(
        loss_kd=dict(type='hkd_mm.KLLoss', tau=1.0))))
