# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Cached and online distillation are the same training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from hkd_mm.apis.config.compose import load_config
from hkd_mm.errors import UserError


@pytest.fixture
def kd(tiny_configs, quick_runner):
    """``kd(**options) -> Runner`` of the tiny pair on packed images."""
    path = tiny_configs['kd']
    text = path.read_text().replace(
        'custom_hooks = [',
        "custom_hooks = [dict(type='hkd_mm.TeacherCacheHook'), ",
    )
    path.write_text(text)
    torch.manual_seed(5)
    cfg = load_config(tiny_configs['teacher'])
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope('mmpretrain')
    teacher = MODELS.build(cfg.model)
    teacher.init_weights()
    torch.save(dict(state_dict=teacher.state_dict()), 'teacher.pth')

    def build(folder, **options):
        from tiny import forget_runs

        forget_runs()
        cfg = load_config(
            path,
            {
                'packed': True,
                'max_epochs': 4,
                'model.teacher_ckpt': 'teacher.pth',
                **options,
            },
        )
        cfg.work_dir = folder
        return Runner.from_cfg(cfg)

    return build


def losses(runner):
    """Run and collect the losses of each iteration, and teacher forwards."""
    found, calls = [], []
    model = runner.model
    model.teacher.register_forward_hook(lambda *_: calls.append(1))
    step = model._run_forward

    def spy(data, mode):
        result = step(data, mode)
        if mode == 'loss':
            found.append({k: v.item() for k, v in result.items()})
        return result

    model._run_forward = spy
    runner.train()
    return found, len(calls)


@pytest.mark.parametrize(
    'alpha, beta', [(1.0, 0.0), (0.85, 0.0), (1.0, 0.02), (0.85, 0.02)]
)
def test_cached_losses_are_the_online_ones(kd, alpha, beta):
    key = 'model.distiller.distill_losses.loss_hybrid'
    weights = {f'{key}.alpha': alpha, f'{key}.beta': beta}
    online, all_calls = losses(
        kd('online', **{'packed.num_views': 2}, **weights)
    )
    cache = {'model.teacher_cache': dict(num_views=2)}
    filled, filling_calls = losses(kd('filling', **cache, **weights))
    read, reading_calls = losses(kd('reading', **cache, **weights))
    steps = len(online)
    assert steps == 4 * 3 and all_calls == steps
    assert filling_calls == steps // 2 + 1  # two views, and one for shapes
    # shapes, and one check a view: the teacher takes no step any more
    assert reading_calls == 1 + 2
    for one, two, three in zip(online, filled, read, strict=True):
        assert set(one) == set(two) == set(three)
        for name in one:
            assert two[name] == pytest.approx(one[name], rel=2e-3), name
            assert three[name] == pytest.approx(one[name], rel=2e-3), name


def test_a_bf16_teacher_has_a_cache_of_its_own(kd):
    cache = {'model.teacher_cache': dict(num_views=1), 'max_epochs': 1}
    exact, _ = losses(kd('exact', **cache))
    half = {**cache, 'model.teacher_inference.dtype': 'bfloat16'}
    filled, _ = losses(kd('filling', **half))
    read, calls = losses(kd('reading', **half))  # checked on opening
    assert calls == 1 + 1
    assert len(list(Path('work_dirs/teacher_cache').iterdir())) == 2
    for one, two, three in zip(exact, filled, read, strict=True):
        assert two != one
        for name in one:
            assert two[name] == pytest.approx(one[name], rel=0.05), name
            assert three[name] == pytest.approx(two[name], rel=2e-3), name


def test_a_cached_teacher_takes_no_part_in_the_runs_autocast(kd):
    model = kd('run', **{'model.teacher_cache': dict(num_views=1)}).model
    images = torch.randn(2, 3, 16, 16)
    exact = model.teacher_records(images)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = model.teacher_records(images)
        model.teacher_cache.declined = True  # it did not fit: online
        half = model.teacher_records(images)
    for name in exact:
        assert torch.equal(exact[name], mixed[name]), name
        assert not torch.equal(exact[name], half[name].float()), name


def test_a_budget_that_is_too_small_leaves_the_teacher_online(kd):
    found, calls = losses(
        kd('run', **{'model.teacher_cache': dict(num_views=2, budget_gb=1e-7)})
    )
    assert calls == len(found) + 1
    assert not Path('work_dirs/teacher_cache').exists()
    log = next(Path('run').glob('*/*.log')).read_text()
    assert 'NO TEACHER CACHE' in log and 'budget_gb' in log


def test_another_teacher_or_augmentation_gets_another_folder(kd):
    cache = {'model.teacher_cache': dict(num_views=2), 'max_epochs': 1}
    losses(kd('a', **cache))
    losses(kd('b', **cache, **{'packed.seed': 7}))
    weights = torch.load('teacher.pth')
    weights['state_dict']['head.fc.bias'] += 1e-3
    torch.save(weights, 'teacher.pth')
    losses(kd('c', **cache))
    headers = [
        json.loads(path.read_text())['parts']
        for path in Path('work_dirs/teacher_cache').glob('*/header.json')
    ]
    assert len(headers) == 3
    assert len({h['teacher'] for h in headers}) == 2
    assert len({h['augmentation'] for h in headers}) == 2


def test_entries_that_the_teacher_would_not_say_are_refused(kd):
    cache = {'model.teacher_cache': dict(num_views=1), 'max_epochs': 1}
    losses(kd('a', **cache))
    folder = next(Path('work_dirs/teacher_cache').iterdir())
    logits = np.memmap(folder / 'logits.bin', 'float32', 'r+')
    logits += 1.0
    logits.flush()
    with pytest.raises(UserError, match='damaged: the entry of image'):
        losses(kd('b', **cache))
    # a forger who knows of checksums
    from hkd_mm.models.teacher_cache import CacheFile

    header = json.loads((folder / 'header.json').read_text())
    arrays = {k: (tuple(s), d) for k, (s, d) in header['arrays'].items()}
    forged = CacheFile(folder, header['parts'], arrays, 1, header['num_rows'])
    rows = forged.entries()[:, 1]
    values = forged.read(0, rows)
    shutil.copytree(folder, 'copy')
    for file in folder.glob('*.*8'):
        file.write_bytes(bytes(file.stat().st_size))
    CacheFile(folder, header['parts'], arrays, 1, header['num_rows']).write(
        0, rows, values
    )
    with pytest.raises(UserError, match='logits of view 0 differs by 1'):
        losses(kd('c', **cache))


def test_the_stock_pipeline_is_refused_with_the_way_out(kd):
    with pytest.raises(UserError, match='packed=True'):
        losses(
            kd(
                'a',
                **{'packed': False, 'model.teacher_cache': dict(num_views=1)},
            )
        )


def test_a_cache_built_ahead_is_the_one_that_training_reads(kd, tool):
    kd('unused')  # writes the teacher
    options = [
        'packed=True',
        'model.teacher_ckpt=teacher.pth',
        'model.teacher_cache.num_views=2',
    ]
    build = tool('build_teacher_cache')
    for _ in range(2):  # the second time nothing is left to do
        assert (
            build(
                ['tiny_kd.py', '--batch-size', '7', '--cfg-options', *options]
            )
            == 0
        )
    (folder,) = Path('work_dirs/teacher_cache').iterdir()
    _, calls = losses(kd('run', **{'model.teacher_cache': dict(num_views=2)}))
    assert calls == 1 + 2
    assert [folder] == list(Path('work_dirs/teacher_cache').iterdir())


def test_building_without_a_teacher_or_cache_says_what_to_set(
    kd, tool, capsys
):
    build = tool('build_teacher_cache')
    assert build(['tiny_kd.py', '--cfg-options', 'packed=True']) == 2
    assert 'model.teacher_cache.num_views' in capsys.readouterr().err
    assert (
        build(
            [
                'tiny_kd.py',
                '--cfg-options',
                'packed=True',
                'model.teacher_cache.num_views=2',
            ]
        )
        == 2
    )
    assert 'model.teacher_ckpt=FILE' in capsys.readouterr().err
