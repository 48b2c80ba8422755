# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Generated images and tiny configs that the tests share."""

import csv
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
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


@pytest.fixture
def quick_runner(monkeypatch):
    """Runs in this process: no environment report, a log of their own."""
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR'):
        monkeypatch.delenv(name, raising=False)
    forget_runs()
    yield
    forget_runs()


@pytest.fixture
def tool():
    """``tool('train')`` is the ``main(argv) -> exit code`` of a tool."""

    def load(name: str):
        path = Path(__file__).parents[1] / 'tools' / f'{name}.py'
        spec = importlib.util.spec_from_file_location(f'tool_{name}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main

    return load


@pytest.fixture(scope='session')
def tiny_data(tmp_path_factory) -> Path:
    """Class folders: 3 classes x 12 images of 24 x 24; do not write there."""
    return make_class_folders(tmp_path_factory.mktemp('tiny') / 'data')


@pytest.fixture
def tiny_configs(tiny_data, tmp_path, monkeypatch) -> dict[str, Path]:
    """Configs of a tiny student, teacher and pair; works in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    return write_tiny_configs(tmp_path, tiny_data)


@pytest.fixture
def in_tmp(tmp_path, monkeypatch) -> Path:
    """Work in a folder of the test: split files and work dirs go there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write_image():
    """Write a small photograph that differs from those of other seeds."""

    def write(path, seed: int = 0, size: int = 12) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def write_table():
    """Write rows of equal keys as a CSV file."""

    def write(path, rows: list[dict]) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, 'w', newline='') as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


@pytest.fixture
def packed_root(tiny_data, tmp_path, monkeypatch) -> Path:
    """A copy of the tiny data to change; works in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    # images are packed in this process, where a test can look on
    monkeypatch.setattr('hkd_mm.parallel.default_workers', lambda: 1)
    return shutil.copytree(tiny_data, tmp_path / 'data')


@pytest.fixture
def packed(packed_root):
    """Build a ``PackedDataset`` of one split of ``packed_root``."""

    def build(split='all', data_root=packed_root, **kwargs):
        from hkd_mm.registry import DATASETS

        inner = dict(
            type='hkd_mm.SkinDisease',
            data_root=str(data_root),
            split=split,
            classes=list(TINY_CLASSES),
            split_ratios=(0.5, 0.25, 0.25),
        )
        config = dict(type='hkd_mm.PackedDataset', dataset=inner, size=16)
        return DATASETS.build(dict(config, **kwargs))

    return build


@pytest.fixture
def photos():
    """uint8 (6, 40, 40, 3): smooth, noisy, grey, black, white, two-valued."""
    import torch

    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(40), torch.arange(40), indexing='ij')
    smooth = torch.stack([x * 6, y * 6, 255 - 3 * (x + y)], -1)
    noise = torch.randint(0, 256, (40, 40, 3), generator=generator)
    grey = noise[..., :1].expand(-1, -1, 3)
    two = torch.where((x + y)[..., None] % 7 < 3, 30, 220).expand(-1, -1, 3)
    black, white = torch.zeros_like(noise), torch.full_like(noise, 255)
    images = torch.stack([smooth, noise, grey, black, white, two])
    return images.to(torch.uint8)


@pytest.fixture
def planar(photos):
    """The same as float32 (6, 3, 40, 40) in [0, 255]."""
    return photos.permute(0, 3, 1, 2).float().contiguous()


@pytest.fixture(scope='session')
def demo_run(tmp_path_factory):
    """Generated images and a teacher of one epoch."""
    root = Path(__file__).resolve().parents[1]
    folder = tmp_path_factory.mktemp('demo_run')
    for argv in (
        ['tools/dataset_tools/make_demo_images.py', '--out', folder / 'demo'],
        [
            'tools/train.py',
            'configs/demo/resnet18_demo.py',
            '--work-dir',
            folder / 'teacher',
            '--cfg-options',
            f'data_root={folder / "demo"}',
            'max_epochs=1',
        ],
    ):
        subprocess.run(
            [sys.executable, *map(str, argv)],
            cwd=root,
            check=True,
        )
    return folder / 'demo', folder / 'teacher' / 'student.pth'
