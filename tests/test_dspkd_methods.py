# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The methods of the study of DSP-KD train, alone and in stages."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from training_steps import one_step, two_epochs

from hkd_mm.config.compose import config_named, load_config
from hkd_mm.config.networks import check_same_network
from hkd_mm.config.teacher_options import teacher_options
from hkd_mm.training import stages as student_stage

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / 'configs' / 'dspkd'
PAIR = 'res2net101_shufflenetv2_isic2019'
PAIRS = (
    PAIR,
    'convnext_base_shufflenetv2_isic2019',
    'effb4_shufflenetv2_isic2019',
    'res2net101_shufflenetv2_skin6_512',
)
METHODS = sorted(FOLDER.glob(f'*_{PAIR}.py'))
NETS = sorted(path for path in FOLDER.glob('[!_]*.py') if path not in METHODS)
STAGES = dict(  # method -> what is trained before it, beside the teacher
    dspkd=f'mgd_hf_{PAIR}', mgd_hf_kd=f'mgd_hf_{PAIR}'
)
every_method = pytest.mark.parametrize(
    'path', METHODS, ids=lambda path: path.stem.removesuffix(f'_{PAIR}')
)


def composed(path, *options):
    return load_config(path, ['pretrained=False', *options], read_data=False)


def method(name):
    return FOLDER / f'{name}_{PAIR}.py'


@every_method
def test_one_step_trains_every_part(path):
    init_default_scope('mmpretrain')
    cfg = composed(path, 'pair=demo')
    cfg.model.data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
    cfg.model.pop('teacher_cache', None)  # a single step has no hooks
    torch.manual_seed(0)
    one_step(MODELS.build(cfg.model).train(), 5)


@pytest.mark.parametrize('pair', PAIRS)
def test_first_stage_takes_the_maps_of_every_pair(pair):
    init_default_scope('mmpretrain')
    cfg = composed(method('mgd_hf'), f'pair={pair}', 'input_size=64')
    cfg.model.architecture.type = 'ImageClassifier'
    cfg.model.data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
    cfg.model.pop('teacher_cache', None)  # a single step has no hooks
    torch.manual_seed(0)
    one_step(MODELS.build(cfg.model).train(), 6)


@pytest.mark.parametrize('pair', PAIRS)
def test_teachers_are_trained_alone_for_100_epochs(pair):
    cfg = composed(method('kd'), f'pair={pair}')
    path = config_named(cfg, 'teacher_config')
    options, _ = teacher_options(cfg, path, [f'pair={pair}', 'data_root=here'])
    teacher = load_config(path, options, read_data=False)
    assert teacher.max_epochs == 100
    assert teacher.train_dataloader.dataset.dataset.data_root == 'here'
    check_same_network(cfg.model.teacher, teacher.model, path)
    path = config_named(cfg, 'student_config')
    assert composed(path).model.head == cfg.model.architecture.head


@pytest.mark.parametrize('name', ['convnext_base', 'efficientnet_b4'])
def test_other_teachers_of_table_3_come_by_name(name):
    cfg = composed(method('kd'), f'pair={PAIRS[-1]}', f'teacher={name}')
    path = config_named(cfg, 'teacher_config')
    assert Path(path) == FOLDER / f'{name}_skin6_512.py'
    check_same_network(cfg.model.teacher, composed(path).model, path)


@pytest.mark.parametrize('pair', [None, PAIRS[1]])
@pytest.mark.parametrize('name', STAGES)
def test_second_stage_begins_with_the_student_of_the_first(
    name, pair, monkeypatch, tmp_path
):
    given = [f'pair={pair}'] if pair else []
    cfg = composed(method(name), *given)
    cfg.work_dir = str(tmp_path / name)
    cfg.model.teacher_ckpt = 'teacher.pth'
    stages = []
    monkeypatch.setattr(
        student_stage, 'provide', lambda stage, *_: stages.append(stage)
    )
    student_stage.provide_student(cfg, None, None, cfg_options=given)
    (stage,) = stages
    assert Path(stage.path) == FOLDER / f'{STAGES[name]}.py'
    first = load_config(stage.path, stage.options, read_data=False)
    assert first.model.teacher == cfg.model.teacher
    assert first.model.teacher_ckpt == 'teacher.pth'
    assert 'loss_hf' in first.model.distiller.distill_losses
    assert first.max_epochs == 120


@pytest.mark.nightly
@every_method
def test_two_epochs_on_the_demo_data(path, demo_run, tmp_path):
    images, teacher = demo_run
    cfg = composed(path, 'pair=demo')
    given = [f'model.teacher_ckpt={teacher}'] if cfg.model.get('teacher') else []
    first = STAGES.get(path.stem.removesuffix(f'_{PAIR}'))
    two_epochs(path, images, given, {first} - {None}, tmp_path)
