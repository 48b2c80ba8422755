# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Generated images and tiny configs that the tests share."""

import csv
import gc
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported import export_tiny
from PIL import Image
from tiny import (
    TINY_CLASSES,
    forget_runs,
    make_class_folders,
    write_tiny_configs,
)
from tiny_run import make_tiny_run

# The longest files, which begin first, so that all workers end at one time.
LONGEST = (
    'test_quiet.py',
    'test_sweep_runs.py',
    'test_segmentation.py',
    'test_segmentor_export.py',
    'test_overrides.py',
    'test_compare_tool.py',
    'test_compile_hook.py',
    'test_bad_input.py',
    'test_run_dir.py',
    'test_pairs.py',
    'test_two_processes.py',
    'test_zoo.py',
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each worker whole files: what their tests share is made once."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(config, items):
    """Sort the files for the workers of xdist; elsewhere they stay in order."""
    if hasattr(config, 'workerinput'):
        rank = {name: index for index, name in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_collection_finish(session):
    """What is imported by now stays: no collection looks at it again.

    mmengine collects garbage with every data set, which takes 0.2 s otherwise.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def config_texts_as_they_are():
    """Skip yapf: layout takes a third of a tiny training; real programs do it."""
    from yapf.yapflib import yapf_api

    upstream = yapf_api.FormatCode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', lambda text, **_: (text, True))
        yield upstream


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


@pytest.fixture
def pretrained(tmp_path, monkeypatch) -> Path:
    """A tiny folder in the place of the student that comes with hkd_mm."""
    root = tmp_path / 'models'
    monkeypatch.setattr('hkd_mm.inference.pretrained.ROOTS', (root,))
    return export_tiny(root / 'ham10000_small')


@pytest.fixture(scope='session')
def tiny_data(tmp_path_factory) -> Path:
    """Class folders: 3 classes x 12 images of 24 x 24; do not write there."""
    return make_class_folders(tmp_path_factory.mktemp('tiny') / 'data')


@pytest.fixture(scope='session')
def tiny_run(tmp_path_factory) -> Path:
    """Work dir of a tiny trained classifier; do not write there."""
    return make_tiny_run(tmp_path_factory.mktemp('tiny_run'))


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
    monkeypatch.setattr('hkd_mm.io.progress.default_workers', lambda: 1)
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
        [
            *('tools/data/make_demo_images.py', '--num', '200', '--workers', '1'),
            *('--out', folder / 'demo'),
        ],
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
        ran = subprocess.run(
            [sys.executable, *map(str, argv)],
            cwd=root,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert ran.returncode == 0, ran.stdout
    return folder / 'demo', folder / 'teacher' / 'student.pth'


@pytest.fixture
def exported(tmp_path) -> Path:
    """Takes 8 x 6 pixels, 3 classes, temperature 2, confident from 0.6."""
    return export_tiny(tmp_path / 'export')


@pytest.fixture
def noise():
    """``noise(seed, height, width)`` is uint8 RGB."""

    def make(seed: int = 0, height: int = 12, width: int = 12) -> np.ndarray:
        rng = np.random.default_rng(seed)
        base = rng.integers(0, 206, 3)
        pixels = rng.integers(0, 50, (height, width, 3))
        return (base + pixels).astype(np.uint8)

    return make
