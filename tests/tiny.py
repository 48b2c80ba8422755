# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tiny images and configs, and what tests of the tools begin with."""

from pathlib import Path

import numpy as np
from PIL import Image

TINY_CLASSES = ('Acne', 'Benign', 'Eczema')
TINY_PER_CLASS = 12

# Whole configs: the tests of the tools depend on no file under configs/.
_COMMON = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['hkd_mm'], allow_failed_imports=False)
data_root = {data_root!r}
classes = {classes!r}
input_size = 16
batch_size = 6
max_epochs = 2
pretrained = False
class_weight = None
split_file = None
split_ratios = (0.5, 0.25, 0.25)
seed = 42
data_preprocessor = dict(
    num_classes=3, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
pack = dict(type='PackInputs', meta_keys=('sample_id', 'img_path'))
train_pipeline = [
    dict(type='hkd_mm.LoadSkinImage'),
    dict(type='Resize', scale=input_size),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3),
    pack]
test_pipeline = [
    dict(type='hkd_mm.LoadSkinImage'),
    dict(type='Resize', scale=input_size), pack]
train_dataloader = dict(
    batch_size=batch_size, num_workers=0, persistent_workers=False,
    collate_fn=dict(type='default_collate'),
    worker_init_fn=dict(type='hkd_mm.seed_worker'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='hkd_mm.SkinDisease', data_root=data_root, split='train',
        classes=classes, split_file=split_file, split_ratios=split_ratios,
        seed=seed, serialize_data=False, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=batch_size, num_workers=0, persistent_workers=False,
    collate_fn=dict(type='default_collate'),
    worker_init_fn=dict(type='hkd_mm.seed_worker'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='hkd_mm.SkinDisease', data_root=data_root, split='val',
        classes=classes, split_file=split_file, split_ratios=split_ratios,
        seed=seed, serialize_data=False, pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=batch_size, num_workers=0, persistent_workers=False,
    collate_fn=dict(type='default_collate'),
    worker_init_fn=dict(type='hkd_mm.seed_worker'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='hkd_mm.SkinDisease', data_root=data_root, split='test',
        classes=classes, split_file=split_file, split_ratios=split_ratios,
        seed=seed, serialize_data=False, pipeline=test_pipeline))
val_evaluator = [dict(type='hkd_mm.ClinicalMetric')]
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = [dict(
    type='CosineAnnealingLR', T_max=max_epochs, begin=0, end=max_epochs,
    by_epoch=True)]
auto_scale_lr = dict(base_batch_size=6)
default_hooks = dict(
    runtime_info=dict(type='RuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=1),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='hkd_mm.SafeCheckpointHook', interval=1, max_keep_ckpts=2,
        save_best='balanced_accuracy', rule='greater',
        backend_args=dict(backend='atomic')),
    sampler_seed=dict(type='DistSamplerSeedHook'))
custom_hooks = [dict(type='hkd_mm.EpochSeedHook')]
randomness = dict(seed=seed)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
visualizer = dict(
    type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
log_level = 'INFO'
load_from = None
resume = False
"""

_NET = """dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet_CIFAR', depth=18, num_stages=2, strides=(1, 2),
        dilations=(1, 1), out_indices=(1, ), stem_channels={width},
        base_channels={width}),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=3, in_channels={out_channels},
        topk=(1, ), loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))"""

_KD = """
teacher_config = 'tiny_teacher.py'
model = dict(
    type='hkd_mm.FrozenTeacherDistill',
    architecture={student},
    teacher={teacher},
    teacher_ckpt=None,
    input_size=input_size,
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
"""


# for the text of ``tiny_kd.py``
CURRICULUM = """
train_dataloader['sampler'] = dict(
    type='hkd_mm.CurriculumSampler', power=None)
custom_hooks = custom_hooks + [dict(type='hkd_mm.TeacherRankingHook')]
"""


def make_class_folders(
    root: Path,
    classes=TINY_CLASSES,
    per_class: int = TINY_PER_CLASS,
    size: int = 24,
) -> Path:
    """Write ``root/<class>/<n>.png``, learnable: a hue for each class."""
    rng = np.random.default_rng(0)
    for index, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            image = rng.integers(0, 120, (size, size, 3))
            image[..., index % 3] += 100
            Image.fromarray(image.astype('uint8')).save(
                root / name / f'{name.lower()}_{number:02d}.png'
            )
    return root


def write_tiny_configs(
    folder: Path, data_root: Path, classes=TINY_CLASSES
) -> dict[str, Path]:
    """Write ``tiny_student.py``, ``tiny_teacher.py`` and ``tiny_kd.py``.

    Returns:
        Their paths under ``student``, ``teacher`` and ``kd``.
    """
    common = _COMMON.format(data_root=str(data_root), classes=list(classes))
    student = _NET.format(width=4, out_channels=8)
    teacher = _NET.format(width=8, out_channels=16)
    texts = dict(
        student=f'{common}model = {student}\n',
        teacher=f'{common}model = {teacher}\n',
        kd=common + _KD.format(student=student, teacher=teacher),
    )
    paths = {}
    for name, text in texts.items():
        paths[name] = folder / f'tiny_{name}.py'
        paths[name].write_text(text)
    return paths


def forget_runs() -> None:
    """Drop what mmengine keeps of a run under its name, a time in seconds."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer
    from mmpretrain.visualization import UniversalVisualizer

    for kept in (
        MMLogger,
        MessageHub,
        DefaultScope,
        Visualizer,
        UniversalVisualizer,
    ):
        kept._instance_dict.clear()
