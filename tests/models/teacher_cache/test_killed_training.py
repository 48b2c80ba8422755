# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A distillation killed while its cache is filled ends as the whole one."""

import signal
from pathlib import Path

import pytest
import torch
from killed_runs import killed_runs

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tiny_cached(tiny_configs, tmp_path):
    """A tiny distillation with a cache, and its options."""
    path = tiny_configs['kd']
    path.write_text(
        path.read_text().replace(
            'custom_hooks = [',
            "custom_hooks = [dict(type='hkd_mm.TeacherCacheHook'), ",
        )
    )
    from mmengine.registry import MODELS, init_default_scope

    from hkd_mm.config.compose import load_config

    init_default_scope('mmpretrain')
    torch.manual_seed(5)
    teacher = MODELS.build(load_config(tiny_configs['teacher']).model)
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    return path, {
        'packed': True,
        'batch_size': 7,  # and a last batch of 4
        'model.teacher_ckpt': str(tmp_path / 'teacher.pth'),
        'model.teacher_cache.num_views': 2,
    }


@pytest.mark.slow
@pytest.mark.parametrize('shared', [False, True])
def test_killed_while_filling(tiny_cached, tmp_path, quick_runner, shared):
    runs = killed_runs(*tiny_cached, tmp_path / 'runs', 3, shared)
    assert any(-signal.SIGKILL in run['ends'] for run in runs)
    assert all(not run['differ'] for run in runs), runs


@pytest.mark.nightly
@pytest.mark.parametrize('shared', [False, True])
def test_twenty_kills_of_a_demo_run(
    demo_run, tmp_path, monkeypatch, quick_runner, shared
):
    monkeypatch.chdir(tmp_path)
    images, teacher = demo_run
    options = {
        'data_root': str(images),
        'packed': True,
        'model.teacher_ckpt': str(teacher),
        'model.teacher_cache.num_views': 3,
    }
    config = ROOT / 'configs/demo/hybrid_resnet18_mbv2_demo.py'
    runs = killed_runs(config, options, tmp_path / 'runs', 20, shared)
    assert all(not run['differ'] for run in runs), runs
    kills = sum(run['ends'].count(-signal.SIGKILL) for run in runs)
    # a shared cache is soon full: no entry is being written any more
    assert kills >= (5 if shared else 20)
