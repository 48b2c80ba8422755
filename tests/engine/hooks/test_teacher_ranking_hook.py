# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The teacher's confidence orders the training images."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from processes import run

from hkd_mm.config.compose import load_config
from hkd_mm.engine.hooks.teacher_hooks import teacher_confidence
from hkd_mm.errors import UserError
from hkd_mm.training.trainer import train

SAMPLER = """
train_dataloader['sampler'] = dict(
    type='hkd_mm.CurriculumSampler', power=None)
custom_hooks = custom_hooks + [dict(type='hkd_mm.TeacherRankingHook')]
"""


@pytest.fixture
def curriculum(tiny_configs):
    path = tiny_configs['kd'].with_name('curriculum.py')
    path.write_text(tiny_configs['kd'].read_text() + SAMPLER)
    return path


@pytest.mark.parametrize('packed', [False, True])
def test_confidence_is_the_teachers_own_without_augmentation(
    curriculum, quick_runner, tmp_path, packed
):
    cfg = load_config(curriculum, dict(packed=packed))
    cfg.work_dir = str(tmp_path / 'run')
    runner = Runner.from_cfg(cfg)
    runner.val_loop  # noqa: B018  built when asked for
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    model = runner.model
    found = teacher_confidence(model, runner)
    assert np.array_equal(found, teacher_confidence(model, runner))
    dataset = runner.train_dataloader.dataset
    plain = load_config(curriculum)
    shown = plain.train_dataloader.dataset
    shown.pipeline = plain.val_dataloader.dataset.pipeline
    from hkd_mm.registry import DATASETS

    images = DATASETS.build(shown)
    assert len(images) == len(dataset) == len(found)
    for i in (0, 7, len(images) - 1):
        pixels = images[i]['inputs'].flip(0).float()  # RGB
        scores = model.teacher((pixels[None] - 127.5) / 127.5, mode='tensor')
        expected = torch.softmax(scores, 1).max().item()
        assert found[i] == pytest.approx(expected, abs=1e-5)


def test_a_run_says_how_confident_the_teacher_is(
    curriculum, quick_runner, tmp_path, capfd
):
    options = dict(max_epochs=1, teacher_config='tiny_teacher.py')
    train(str(curriculum), str(tmp_path / 'run'), cfg_options=options)
    said = capfd.readouterr()
    assert 'Curriculum: 18 training images' in said.out + said.err


def test_what_lacks_is_told(tiny_configs, quick_runner, tmp_path):
    hook = 'custom_hooks = custom_hooks + ' + str(
        [dict(type='hkd_mm.TeacherRankingHook')]
    )
    for name, said in (
        ('student', 'no teacher to rank'),
        ('kd', 'must be hkd_mm.CurriculumSampler, not DefaultSampler'),
    ):
        path = tmp_path / f'{name}_ranked.py'
        path.write_text(f'{tiny_configs[name].read_text()}\n{hook}\n')
        cfg = Config.fromfile(path)
        cfg.work_dir = str(tmp_path / name)
        with pytest.raises(UserError, match=said):
            Runner.from_cfg(cfg).train()


def test_a_data_set_that_hides_its_pipeline_is_refused(
    curriculum, quick_runner, tmp_path
):
    path = curriculum.with_name('repeated.py')
    path.write_text(
        curriculum.read_text()
        + "train_dataloader['dataset'] = dict(type='RepeatDataset', times=2,"
        " dataset=train_dataloader['dataset'])\n"
        "train_dataloader['sampler'] = dict(type='DefaultSampler')\n"
    )
    cfg = load_config(path)
    cfg.work_dir = str(tmp_path / 'run')
    cfg.custom_hooks = []
    runner = Runner.from_cfg(cfg)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    with pytest.raises(UserError, match='RepeatDataset hides the pipeline'):
        teacher_confidence(runner.model, runner)


# Ranks, and writes down what each process would draw in two epochs.
_RANK = """
import json, os, sys
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from hkd_mm.config.compose import compose_config
from hkd_mm.training.runtime import set_up_processes
from hkd_mm.engine.hooks.teacher_hooks import TeacherRankingHook
from mmengine.runner import Runner

torch.set_num_threads(1)
many, found = 'RANK' in os.environ, {}
for packed in (False, True):
    for power in (None, 1.0):
        cfg = compose_config('curriculum.py', {
            'packed': packed, 'model.teacher_ckpt': 'teacher.pth',
            'train_dataloader.sampler.power': power})
        set_up_processes(cfg, 'pytorch' if many else 'none', 'cpu')
        cfg.work_dir = 'run'
        cfg.experiment_name = f'{packed}_{power}'
        runner = Runner.from_cfg(cfg)
        runner.val_loop  # built when asked for
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        runner.model.train()
        torch.rand(get_rank() * 3)  # processes need not be at one place
        TeacherRankingHook().before_train(runner)
        sampler = runner.train_dataloader.sampler
        drawn = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            drawn.append([int(i) for i in sampler])
        found[cfg.experiment_name] = dict(
            confidence=sampler._confidence.tolist(), drawn=drawn)
with open(f'{sys.argv[1]}_{get_rank()}.json', 'w') as file:
    json.dump(found, file)
"""


@pytest.mark.slow
def test_two_processes_rank_as_one(curriculum, tmp_path):
    """Plain and packed, every image once or drawn by class."""
    (tmp_path / 'rank.py').write_text(_RANK)
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    network = MODELS.build(load_config(curriculum).model.teacher)
    network.init_weights()
    torch.save(dict(state_dict=network.state_dict()), tmp_path / 'teacher.pth')
    run(tmp_path, 'rank.py', 'one', processes=1)
    run(tmp_path, 'rank.py', 'two')
    found = [
        json.loads((tmp_path / f'{name}.json').read_text())
        for name in ('one_0', 'two_0', 'two_1')
    ]
    assert len(found[0]) == 4
    for one, first, second in zip(*(kind.values() for kind in found)):
        assert len(set(one['confidence'])) > 9  # they do differ
        assert first['confidence'] == second['confidence']
        assert first['confidence'] == one['confidence']
        for epoch, whole in enumerate(one['drawn']):
            assert first['drawn'][epoch] == whole[::2]
            assert second['drawn'][epoch] == whole[1::2]
            ranks = [one['confidence'][i] for i in whole]
            assert ranks == sorted(ranks, reverse=True)
