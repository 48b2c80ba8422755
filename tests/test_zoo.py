# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Every method under configs/zoo trains, on a pair of small networks."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from training_steps import one_step, two_epochs

from hkd_mm.config.compose import load_config

ROOT = Path(__file__).resolve().parents[1]
TEACHER = 'demo/resnet18_demo.py'  # of pair=demo
CONFIGS = sorted((ROOT / 'configs' / 'zoo').glob('*/*.py'))
every_config = pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)


@every_config
def test_its_folder_is_complete(path):
    method = path.parent.name
    assert path.name.startswith(f'{method}_')
    assert len(path.read_text().splitlines()) <= 20
    said = (path.parent / 'README.md').read_text()
    assert said.startswith('# ') and len(said.split()) < 250
    for word in ('`', 'http', '**Tune**'):
        assert word in said, word


@every_config
def test_one_step_trains_every_part(path):
    init_default_scope('mmpretrain')
    cfg = load_config(path, ['pair=demo'], read_data=False)
    cfg.model.data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
    cfg.model.pop('teacher_cache', None)  # a single step has no hooks
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    one_step(model, 5)
    assert not any(name.startswith('teacher.') for name in model.state_dict())
    saved = model.state_dict()
    model.load_state_dict(saved, strict=True)


@pytest.mark.nightly
@every_config
def test_two_epochs_on_the_demo_data(path, demo_run, tmp_path):
    images, teacher = demo_run
    cfg = load_config(path, ['pair=demo'], read_data=False)
    given, first = [], set()  # what is trained beforehand
    if cfg.model.get('teacher') and cfg.teacher_config == TEACHER:
        given = [f'model.teacher_ckpt={teacher}']
    elif cfg.model.get('teacher'):
        first = {Path(cfg.teacher_config).stem}
    if cfg.get('previous_stage_config'):
        first |= {Path(cfg.previous_stage_config).stem}
    for index, _ in enumerate(cfg.model.get('teachers') or ()):
        one = f'model.teachers.{index}'
        given += [f'{one}.model_name=resnet18', f'{one}.ckpt={teacher}']
    two_epochs(path, images, given, first, tmp_path)
