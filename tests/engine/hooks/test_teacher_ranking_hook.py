# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The teacher's confidence orders the training images."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from tiny import CURRICULUM

from hkd_mm.config.compose import load_config
from hkd_mm.engine.hooks.teacher_hooks import teacher_confidence
from hkd_mm.errors import UserError
from hkd_mm.training.trainer import train


@pytest.fixture
def curriculum(tiny_configs):
    path = tiny_configs['kd'].with_name('curriculum.py')
    path.write_text(tiny_configs['kd'].read_text() + CURRICULUM)
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
