# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A killed and resumed run ends where the run that was never killed ends."""

import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from processes import fork
from tiny import forget_runs

from hkd_mm.engine.distributed import EpochSeedHook
from hkd_mm.errors import UserError


def _train(config, work_dir, options, resume=None):
    from hkd_mm.training.trainer import train

    forget_runs()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train(
            str(config),
            work_dir=str(work_dir),
            resume=resume,
            cfg_options=options,
        )
    finally:
        torch.set_num_threads(threads)


def _train_and_be_killed(*how) -> None:
    """Dies without a word in the second step of the second epoch."""

    def kill(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.epoch == 1 and batch_idx == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    EpochSeedHook.after_train_iter = kill
    _train(*how)


def _state(folder: Path, name: str) -> dict:
    return torch.load(folder / name, weights_only=False)


def _assert_same_run(one: Path, other: Path) -> None:
    first, second = _state(one, 'epoch_3.pth'), _state(other, 'epoch_3.pth')
    assert first['state_dict'].keys() == second['state_dict'].keys()
    for key, value in first['state_dict'].items():
        assert torch.equal(value, second['state_dict'][key]), key
    momenta = (c['optimizer']['state'] for c in (first, second))
    for mine, theirs in zip(*(m.values() for m in momenta)):
        assert torch.equal(mine['momentum_buffer'], theirs['momentum_buffer'])


def _teacher(config: Path, folder: Path) -> str:
    from mmpretrain.registry import MODELS

    from hkd_mm.config.compose import load_config

    torch.manual_seed(0)
    network = MODELS.build(load_config(config).model)
    torch.save(dict(state_dict=network.state_dict()), folder / 'teacher.pth')
    return str(folder / 'teacher.pth')


@pytest.mark.slow
@pytest.mark.parametrize('name, workers', [('kd', 0), ('student', 1)])
def test_killed_run_resumes_bit_identically(
    name, workers, tiny_configs, tmp_path, quick_runner
):
    options = {
        'max_epochs': 3,
        'train_dataloader.num_workers': workers,
        'train_dataloader.persistent_workers': workers > 0,
    }
    if name == 'kd':
        options['model.teacher_ckpt'] = _teacher(tiny_configs['teacher'], tmp_path)
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    expected = _train(tiny_configs[name], whole, options)
    task = partial(_train_and_be_killed, tiny_configs[name], killed, options)
    done = fork(task, tmp_path / 'out')
    done.join(300)
    assert done.exitcode == -signal.SIGKILL, (tmp_path / 'out').read_text()
    assert (killed / 'epoch_1.pth').is_file()
    assert not (killed / 'epoch_2.pth').exists()

    finished = _train(tiny_configs[name], killed, options, resume='auto')
    _assert_same_run(whole, killed)
    assert finished['epoch'] == 3
    assert finished['checkpoint'] == expected['checkpoint']
    assert finished['best_score'] == expected['best_score']


@pytest.mark.slow
def test_damaged_last_checkpoint_falls_back_and_says_so(
    tiny_configs, tmp_path, quick_runner, capsys
):
    options = {'max_epochs': 3, 'default_hooks.checkpoint.max_keep_ckpts': 3}
    config = tiny_configs['student']
    whole, damaged = tmp_path / 'whole', tmp_path / 'damaged'
    _train(config, whole, options)
    shutil.copytree(whole, damaged)
    (damaged / 'epoch_3.pth').unlink()
    last = damaged / 'epoch_2.pth'
    last.write_bytes(last.read_bytes()[:5000])
    (damaged / 'last_checkpoint').write_text(str(last))
    capsys.readouterr()
    _train(config, damaged, options, resume='auto')
    said = capsys.readouterr().out
    assert 'epoch_2.pth' in said and 'Falling back' in said
    assert f'resumed from {damaged / "epoch_1.pth"}' in said
    _assert_same_run(whole, damaged)


def test_resume_with_nothing_to_resume_starts_anew_and_says_so(
    tiny_configs, tmp_path, quick_runner, capsys
):
    finished = _train(
        tiny_configs['student'],
        tmp_path / 'new',
        {'max_epochs': 1},
        resume='auto',
    )
    assert finished['epoch'] == 1
    assert 'from the beginning' in capsys.readouterr().out


def test_resume_on_another_split_is_refused(tiny_configs, tmp_path, quick_runner):
    options = {'max_epochs': 1}
    config, run = tiny_configs['student'], tmp_path / 'run'
    _train(config, run, options)
    with pytest.raises(UserError, match='another split'):
        _train(config, run, {**options, 'split_seed': 7}, resume='auto')


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(classes=('Eczema', 'Benign', 'Acne')), 'Eczema, Benign, Acne'),
        (dict(split_hash='f' * 64), 'another split'),
        (dict(preparation=dict(size=[32, 32])), r'size=\[32, 32\]'),
        (dict(preparation=dict(mean=[0.0, 0.0, 0.0])), r'mean=\[0.0'),
        (dict(epoch='1'), 'weights only'),
    ],
)
def test_no_teacher_is_trained_for_a_resume_that_is_refused(
    changes, words, tiny_configs, tmp_path, monkeypatch
):
    from hkd_mm.training import trainer

    def provide(*_, **__):
        pytest.fail('the teacher came first')

    monkeypatch.setattr(trainer, 'provide_teacher', provide)
    state = dict(w=torch.ones(1))
    checkpoint = dict(meta={'epoch': 1, 'iter': 4, **changes}, state_dict=state)
    checkpoint.update(optimizer={}, message_hub={})
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    with pytest.raises(UserError, match=words):
        _train(tiny_configs['kd'], tmp_path / 'run', {}, f'{tmp_path}/epoch_1.pth')
