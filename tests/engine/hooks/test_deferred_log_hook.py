# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Deferred or not, the log says the same; the device is read less often."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from hkd_mm.engine.hooks import log_hooks as deferred_log_hook


class Scores(nn.Module):
    """Stands for a device: counts who reads its losses."""

    reads = 0


class Watched(torch.Tensor):
    """A tensor that counts ``item()``."""

    def item(self):
        Scores.reads += 1
        return super().item()


@MODELS.register_module()
class _LogModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.count = 0

    def train_step(self, data, optim_wrapper):
        self.count += 1
        loss = (self.weight * self.count).sum()
        return dict(
            loss=loss.as_subclass(Watched),
            loss_kd=torch.tensor(self.count, dtype=torch.bfloat16),
            acc=0.5,
        )


def run(folder: Path, hook: str, interval: int, epochs: int = 2) -> Runner:
    init_default_scope('mmengine')
    Scores.reads = 0
    data = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=list(range(7)),
    )
    runner = Runner(
        model=_LogModel(),
        work_dir=str(folder),
        train_dataloader=data,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            runtime_info=dict(type=hook),
            logger=dict(type='LoggerHook', interval=interval, ignore_last=False),
            checkpoint=None,
        ),
        experiment_name=f'{folder.parent.name}_{folder.name}',
        default_scope='mmengine',
        cfg=Config(dict()),
    )
    runner.train()
    return runner


def printed(folder: Path) -> list[dict]:
    lines = next(folder.glob('*/vis_data/scalars.json')).read_text()
    return [
        {key: value for key, value in json.loads(line).items() if 'time' not in key}
        for line in lines.splitlines()
    ]


@pytest.mark.parametrize('interval', [1, 3, 50])
def test_it_prints_what_mmengine_prints(tmp_path, interval):
    mine = run(tmp_path / 'a', 'hkd_mm.DeferredLogHook', interval)
    reads = Scores.reads
    stock = run(tmp_path / 'b', 'RuntimeInfoHook', interval)
    assert Scores.reads >= 14  # every iteration
    assert reads <= 1  # the first entry of the history
    assert printed(tmp_path / 'a') == printed(tmp_path / 'b')
    assert printed(tmp_path / 'a')
    for key, history in stock.message_hub.log_scalars.items():
        got = mine.message_hub.log_scalars[key].data
        if 'time' not in key:
            assert got[0].tolist() == history.data[0].tolist(), key
        assert got[1].tolist() == history.data[1].tolist(), key


def test_histories_are_bounded_and_still_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(deferred_log_hook, '_KEPT', 4)
    runner = run(tmp_path, 'hkd_mm.DeferredLogHook', 2, epochs=3)
    state = runner.message_hub.state_dict()['log_scalars']
    for key in ('train/loss', 'train/lr', 'train/time'):
        assert len(state[key].data[0]) == 7, key  # an epoch at least
    assert state['train/loss_kd'].data[0].tolist() == list(range(15, 22))
