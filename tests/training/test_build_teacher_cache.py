# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Whose answers can be kept ahead of a training, and whose not."""

import copy

import pytest
import torch
from mmengine.runner import Runner
from tiny import forget_runs

from hkd_mm.config.compose import load_config
from hkd_mm.registry import MODELS

SEVERAL = """_base_ = 'tiny_kd.py'
model = dict(
    type='hkd_mm.MultiTeacherDistill', teacher=None,
    teachers=[dict(_base_.model.teacher, ckpt='teacher_0.pth'),
              dict(_base_.model.teacher, ckpt='teacher_1.pth')],
    fusion='average',
    distiller=dict(
        _delete_=True, type='mmrazor.ConfigurableDistiller',
        distill_losses=dict(loss_kd=dict(type='hkd_mm.KLLoss'))))
custom_hooks = [
    dict(type='hkd_mm.EpochSeedHook'), dict(type='hkd_mm.TeacherCacheHook')]
"""
ALONE = """_base_ = 'tiny_kd.py'
model = dict(
    _delete_=True, type='hkd_mm.SelfDistill', input_size=16,
    architecture=_base_.model.architecture,
    distiller=dict(
        type='mmrazor.ConfigurableDistiller',
        distill_losses=dict(loss_tf=dict(type='hkd_mm.TfKDLoss'))))
"""
PEERS = """_base_ = 'tiny_kd.py'
model = dict(
    _delete_=True, type='hkd_mm.MutualDistill', input_size=16,
    architecture=_base_.model.architecture,
    peers=dict(large=_base_.model.teacher),
    distiller=dict(
        type='mmrazor.ConfigurableDistiller',
        distill_losses=dict(loss_kl=dict(type='hkd_mm.KLLoss'))))
"""
CACHE = ['packed=True', 'model.teacher_cache.num_views=2']


@pytest.fixture
def build(tiny_configs, tool, quick_runner, monkeypatch):
    """``build(text, options)``: the exit code of the tool."""
    # images are packed in this process
    monkeypatch.setattr('hkd_mm.io.progress.default_workers', lambda: 1)

    def run(text, options=CACHE):
        tiny_configs['kd'].with_name('tiny_method.py').write_text(text)
        argv = ['tiny_method.py', '--cfg-options', *options]
        return tool('build_teacher_cache')(argv)

    return run


@pytest.fixture
def teachers(tiny_configs):
    """Two teachers that do not say the same."""
    cfg = load_config(tiny_configs['teacher'])
    from mmengine.registry import init_default_scope

    init_default_scope('mmpretrain')
    for seed in range(2):
        torch.manual_seed(seed)
        network = MODELS.build(copy.deepcopy(cfg.model))
        network.init_weights()
        torch.save(dict(state_dict=network.state_dict()), f'teacher_{seed}.pth')


def train_losses(path, **options):
    """Loss of every step, and how often the teachers were asked."""
    forget_runs()
    cfg = load_config(
        path,
        {'packed': True, 'packed.num_views': 2, 'max_epochs': 2, **options},
    )
    cfg.work_dir = 'run'
    runner = Runner.from_cfg(cfg)
    found, calls = [], []
    runner.model.teacher.register_forward_hook(lambda *_: calls.append(1))
    step = runner.model._run_forward

    def spy(data, mode):
        result = step(data, mode)
        if mode == 'loss':
            found.append(result['distill.loss_kd'].item())
        return result

    runner.model._run_forward = spy
    runner.train()
    return found, len(calls)


@pytest.mark.parametrize(
    'fusion',
    [
        "fusion='average'",
        pytest.param(
            "fusion='class', class_weights=[[.9, .1, .5], [.2, .7, .5]]",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_answer_of_several_teachers_is_built_and_read(build, teachers, fusion):
    text = SEVERAL.replace("fusion='average'", fusion)
    assert build(text) == 0
    online, asked = train_losses('tiny_method.py')
    assert asked == len(online) == 6
    cached, asked = train_losses(
        'tiny_method.py', **{'model.teacher_cache': dict(num_views=2)}
    )
    assert asked == 1 + 1  # opened, and entries computed again
    assert cached == pytest.approx(online, rel=2e-3)
    assert len(set(online)) == 6


def test_each_of_several_teachers_must_be_trained(build, capsys):
    text = SEVERAL.replace("ckpt='teacher_1.pth'", 'ckpt=None')
    assert build(text) == 2
    said = capsys.readouterr().err
    assert 'model.teachers.1.ckpt is None' in said
    assert '--cfg-options model.teachers.1.ckpt=FILE' in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    'fusion, said',
    [
        ('class', 'set model.class_weights, or leave this tool out'),
        ('confidence', 'weighs the teachers by the label'),
    ],
)
def test_a_fusion_that_no_cache_can_keep_is_told(build, teachers, fusion, said, capsys):
    assert build(SEVERAL.replace('average', fusion)) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('text, name', [(ALONE, 'Self'), (PEERS, 'Mutual')])
@pytest.mark.parametrize('options', [CACHE, CACHE[:1]])
def test_without_a_frozen_teacher_there_is_nothing_to_keep(
    build, text, name, options, capsys
):
    assert build(text, options) == 2
    said = capsys.readouterr().err
    assert f'hkd_mm.{name}Distill, which has no frozen teacher' in said
    assert 'train it without a cache' in said
    assert len(said.strip().splitlines()) == 1
