# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MMEngine's own Runner trains a config as tools/train.py does."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load
from hkd_mm.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
_base_ = {base!r}
split_ratios = (0.5, 0.25, 0.25)
batch_size = 6
input_size = 32
data_root = {data!r}
_loader = dict(
    batch_size=batch_size, dataset=dict(
        size=input_size, dataset=dict(
            data_root=data_root, split_ratios=split_ratios)))
train_dataloader = _loader
val_dataloader = _loader
test_dataloader = _loader
max_epochs = 2
_warm_up, _cosine = _base_.param_scheduler
param_scheduler = [_warm_up, dict(_cosine, end=2, T_max=1)]
train_cfg = dict(max_epochs=max_epochs)
model = dict(
    input_size=input_size, architecture=dict(num_classes=3),
    teacher=dict(num_classes=3))
custom_hooks = [dict(type='EmptyCacheHook')]  # drops none of those of a run
del _loader, _warm_up, _cosine
"""
PLAIN = """
import sys
from mmengine.config import Config
from mmengine.runner import Runner
cfg = Config.fromfile('child.py')
cfg.work_dir, cfg.model.teacher_ckpt = sys.argv[1], (sys.argv[2:] or [None])[0]
Runner.from_cfg(cfg).train()
"""


@pytest.fixture
def child(tmp_path, tiny_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = str(ROOT / 'configs/demo/hybrid_resnet18_mbv2_demo.py')
    Path('child.py').write_text(CHILD.format(base=base, data=str(tiny_data)))
    torch.manual_seed(0)
    config = dict(type='hkd_mm.TimmClassifier', model_name='resnet18', num_classes=3)
    state = MODELS.build(config).state_dict()
    torch.save(dict(state_dict=state, meta={}), 'teacher.pth')
    return 'child.py'


def plain(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-c', PLAIN, *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_it_trains_to_the_same_weights(child, tool, quick_runner):
    ran = plain('plain', 'teacher.pth')
    assert ran.returncode == 0, ran.stdout + ran.stderr
    argv = [child, '--work-dir', 'tool', '--cfg-options']
    assert tool('train')([*argv, 'model.teacher_ckpt=teacher.pth']) == 0
    found = [
        safe_load(f'{name}/epoch_2.pth')['state_dict'] for name in ('plain', 'tool')
    ]
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert torch.equal(value, found[1][key]), key
        if value.dim() == 4 and min(value.shape) > 1:
            assert value.is_contiguous(memory_format=torch.channels_last), key
    for name in ('student.pth', 'metrics.json', 'history.json'):
        assert Path('plain', name).is_file() and Path('tool', name).is_file()


def refused(teacher: str | None) -> str:
    """Why a run in this process is refused; nothing is trained."""
    cfg = Config.fromfile('child.py')
    cfg.work_dir, cfg.model.teacher_ckpt = 'plain', teacher
    with pytest.raises(UserError) as error:
        Runner.from_cfg(cfg).train()
    assert not list(Path('plain').glob('epoch_*.pth'))
    return str(error.value)


def test_without_a_teacher_it_refuses(child, quick_runner):
    assert 'model.teacher_ckpt is None' in refused(None)


def test_a_checkpoint_that_runs_code_is_refused(child, quick_runner):
    class Bomb:
        def __reduce__(self):
            return open, ('exploded', 'w')

    torch.save(dict(state_dict=dict(w=Bomb())), 'bomb.pth')
    assert 'bomb.pth' in refused('bomb.pth')
    assert not Path('exploded').exists()
