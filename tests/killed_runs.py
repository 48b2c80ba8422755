# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Trainings that are killed at random moments, beside one that is not."""

import os
import random
import signal
import time
from functools import partial
from multiprocessing import Process
from pathlib import Path

import torch
from processes import fork

from hkd_mm.models.teacher_cache import cache_file
from hkd_mm.training.trainer import train

EPOCHS = 5
ENTRIES = 36  # of the tiny data in two views; a larger run dies early in its first


def killed_runs(
    config: Path, options: dict, folder: Path, kills: int, shared: bool
) -> list[dict]:
    """Compare ``kills`` killed and resumed trainings with a whole one.

    Args:
        config: a distillation with a teacher cache.
        options: of all trainings.
        folder: for their work dirs.
        kills: number of trainings.
        shared: they have one cache, which a training with another seed had
            begun to fill when it was killed; otherwise each has its own.

    Returns:
        For each the exit codes, and the names of weights that differ.
    """

    def start(name: str, cache: str, after=None, **more) -> Process:
        known = {
            'max_epochs': EPOCHS,
            'model.teacher_cache.dir': str(folder / 'caches' / cache),
        }
        work_dir = folder / name
        work_dir.mkdir(parents=True, exist_ok=True)
        task = partial(_train, config, work_dir, {**options, **known, **more}, after)
        return fork(task, work_dir / 'out.txt')

    begin = time.perf_counter()
    assert _wait(start('whole', 'whole')) == 0, _log(folder, 'whole')
    duration = time.perf_counter() - begin
    whole = _weights(folder / 'whole')
    draw, found = random.Random(0), []
    if shared:
        other = start('other', 'shared', 11, **{'randomness.seed': 1})
        assert _wait(other) == -signal.SIGKILL
    for number in range(kills):
        name = f'run_{number}'
        cache = 'shared' if shared else name
        ends = []
        while not ends or (ends[-1] != 0 and len(ends) < 9):
            # every other one dies between the values and their marks
            after = draw.randrange(ENTRIES) if number % 2 else None
            child = start(name, cache, after)
            if len(ends) < 1 + number % 3:  # times that it is killed
                if after is None:
                    time.sleep(draw.uniform(0.05, 0.9) * duration)
                    child.kill()
            elif after is not None:  # the last one may end
                child.kill()
                _wait(child)
                child = start(name, cache)
            ends.append(_wait(child))
        assert ends[-1] == 0, (ends, _log(folder, name))
        weights = _weights(folder / name)
        differ = [
            key
            for key in whole
            if not torch.equal(whole[key], weights.get(key, torch.zeros(0)))
        ]
        found.append(dict(ends=ends, differ=differ))
    return found


def _train(config: Path, work_dir: Path, options: dict, after: int | None) -> None:
    if after is not None:
        _die_at_checksum(after)
    train(str(config), str(work_dir), resume='auto', cfg_options=options)


def _die_at_checksum(number: int) -> None:
    """SIGKILL in place of the checksum of an entry that is being written."""
    usual, write = cache_file._checksum, cache_file.CacheFile.write
    left = [number]

    def dying(values: list) -> int:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(values)

    def dying_write(*args):
        cache_file._checksum = dying
        try:
            return write(*args)
        finally:
            cache_file._checksum = usual

    cache_file.CacheFile.write = dying_write


def _wait(child: Process) -> int:
    """Exit code, or minus the signal."""
    child.join()
    return child.exitcode


def _weights(folder: Path) -> dict:
    """Weights and momenta at the end of a training."""
    saved = torch.load(folder / f'epoch_{EPOCHS}.pth', weights_only=False)
    found = dict(saved['state_dict'])
    for number, state in saved['optimizer']['state'].items():
        for name, value in state.items():
            if torch.is_tensor(value):
                found[f'{number}.{name}'] = value
    return found


def _log(folder: Path, name: str) -> str:
    return (folder / name / 'out.txt').read_text()[-2000:]
