# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The cache keeps each copy of an image apart."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from test_cached_training import kd, losses  # noqa: F401

from hkd_mm.config.compose import compose_config
from hkd_mm.config.config_text import config_text
from hkd_mm.models.teacher_cache import CacheIndex
from hkd_mm.structures.packed_samples import copy_of, row_of, sample_id

TOP_UP = {
    'packed.top_up': 'largest',
    'packed.augment': [
        dict(type='hkd_mm.HorizontalFlip', prob=0.5),
        dict(type='hkd_mm.Rotate', degrees=10),
        dict(type='hkd_mm.RandAugment'),
    ],
}


@pytest.fixture
def uneven(kd, tmp_path):  # noqa: F811
    """``kd`` on classes of 12, 6 and 4 images."""
    text = Path('tiny_kd.py').read_text()
    (old,) = {
        line.split("'")[1] for line in text.splitlines() if line.startswith('data_root')
    }
    root = shutil.copytree(old, tmp_path / 'uneven')
    for name, kept in dict(Eczema=6, Pigment=4).items():
        for path in sorted((root / name).glob('*.png'))[kept:]:
            path.unlink()
    Path('tiny_kd.py').write_text(text.replace(old, str(root)))
    return kd


def test_images_and_copies_have_positions_of_their_own():
    rows = torch.tensor([4, 0, 4, 2, 4])
    ids = sample_id(rows, torch.tensor([0, 0, 2, 1, 1]))
    index = CacheIndex(ids)
    assert index.count == 5
    assert index.of(ids).tolist() == [1, 0, 4, 2, 3]
    assert index.on_host(ids.flip(0)).tolist() == [3, 2, 4, 0, 1]
    assert index.of(ids[:0]).tolist() == []


def test_cached_losses_with_copies_are_the_online_ones(uneven):
    online, _ = losses(uneven('online', **{'packed.num_views': 2}, **TOP_UP))
    cache = {'model.teacher_cache': dict(num_views=2)}
    runner = uneven('filling', **cache, **TOP_UP)
    index = runner.train_dataloader.dataset.index
    assert (copy_of(index) > 0).any()
    filled, calls = losses(runner)
    steps = len(online)
    assert calls == steps // 2 + 1
    entries = runner.model.teacher_cache.file.entries()
    assert len(entries) == 2 * len(index)  # a view of each image and copy
    read, calls = losses(uneven('reading', **cache, **TOP_UP))
    assert calls == 1 + 1
    assert read == filled
    for one, two in zip(online, filled, strict=True):
        for name in one:
            assert two[name] == pytest.approx(one[name], rel=2e-3), name
    # copies of an image are kept apart, and are not the image
    logits = read_logits(runner, index)
    first = {}
    for row, said in zip(row_of(index).tolist(), logits):
        for other in first.setdefault(row, []):
            assert not torch.equal(said, other)
        first[row].append(said)


def read_logits(runner, index):
    cache = runner.model.teacher_cache
    cache.start_view(0, index, torch.device('cpu'))
    return cache.read(index)['logits']


def test_a_cache_of_copies_is_built_ahead_and_has_a_key_of_its_own(uneven, tool):
    cache = {'model.teacher_cache': dict(num_views=1), 'max_epochs': 1}
    losses(uneven('plain', **cache))
    topped_up = compose_config('tiny_kd.py', TOP_UP)
    Path('tiny_kd.py').write_text(config_text(topped_up))
    options = ['model.teacher_ckpt=teacher.pth', 'max_epochs=1']
    options += ['model.teacher_cache.num_views=1']
    build = tool('build_teacher_cache')
    argv = ['tiny_kd.py', '--batch-size', '7', '--cfg-options', *options]
    assert build(argv) == 0 and build(argv) == 0
    headers = [
        json.loads(path.read_text())
        for path in Path('work_dirs/teacher_cache').glob('*/header.json')
    ]
    assert len(headers) == 2
    assert len({header['parts']['split'] for header in headers}) == 2
    rows = sorted(header['num_rows'] for header in headers)
    _, calls = losses(uneven('run', **cache, **TOP_UP))
    assert calls == 1 + 1
    runner = uneven('look', **TOP_UP)
    dataset = runner.train_dataloader.dataset
    extra = int((copy_of(dataset.index) > 0).sum())
    assert rows == [len(dataset) - extra, len(dataset)]


def test_a_resumed_run_with_copies_is_the_whole_one(uneven, tool):
    argv = ['tiny_student.py', '--cfg-options', 'packed.top_up=largest']
    root = Path('tiny_kd.py').read_text().split("data_root = '")[1]
    argv += ['data_root=' + root.split("'")[0]]
    from tiny import forget_runs

    assert tool('train')([*argv, '--work-dir', 'whole']) == 0
    forget_runs()
    resume = ['--work-dir', 'again', '--resume', 'whole/epoch_1.pth']
    assert tool('train')([*argv, *resume]) == 0
    one, two = (
        torch.load(f'{name}/epoch_2.pth', weights_only=False)['state_dict']
        for name in ('whole', 'again')
    )
    assert all(torch.equal(one[key], two[key]) for key in one)
