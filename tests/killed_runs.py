# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Trainings that are killed at random moments, beside one that is not.

A process of its own: it imports everything once and forks each training, so
that a kill costs no start-up. ``python killed_runs.py '{"config": ...}'``
prints one JSON line a killed training.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

EPOCHS = 5


def main(config: str, options: dict, folder: str, kills: int, shared: bool) -> None:
    """Compare ``kills`` killed and resumed trainings with a whole one.

    Args:
        config: a distillation with a teacher cache.
        options: of all trainings.
        folder: for their work dirs.
        kills: number of trainings.
        shared: they have one cache, which a training with another seed had
            begun to fill when it was killed; otherwise each has its own.
    """
    torch.set_num_threads(1)
    import hkd_mm.models.teacher_cache  # noqa: F401
    import hkd_mm.training.trainer  # noqa: F401, before the first fork

    def start(name: str, cache: str, after=None, **more) -> int:
        known = {
            'max_epochs': EPOCHS,
            'model.teacher_cache.dir': str(Path(folder, 'caches', cache)),
        }
        work_dir = Path(folder, name)
        return _fork(config, work_dir, {**options, **known, **more}, after)

    begin = time.perf_counter()
    assert _wait(start('whole', 'whole')) == 0, _log(folder, 'whole')
    duration = time.perf_counter() - begin
    whole = _weights(Path(folder, 'whole'))
    draw = random.Random(0)
    if shared:
        other = start('other', 'shared', 11, **{'randomness.seed': 1})
        assert _wait(other) == -signal.SIGKILL
    for number in range(kills):
        name = f'run_{number}'
        cache = 'shared' if shared else name
        ends = []
        while not ends or (ends[-1] != 0 and len(ends) < 9):
            # every other one dies between the values and their marks
            after = draw.randrange(80) if number % 2 else None
            child = start(name, cache, after)
            if len(ends) < 1 + number % 3:  # times that it is killed
                if after is None:
                    time.sleep(draw.uniform(0.05, 0.9) * duration)
                    os.kill(child, signal.SIGKILL)
            elif after is not None:  # the last one may end
                os.kill(child, signal.SIGKILL)
                _wait(child)
                child = start(name, cache)
            ends.append(_wait(child))
        assert ends[-1] == 0, (ends, _log(folder, name))
        found = _weights(Path(folder, name))
        differ = [
            key
            for key in whole
            if not torch.equal(whole[key], found.get(key, torch.zeros(0)))
        ]
        print(json.dumps(dict(ends=ends, differ=differ)), flush=True)


def _fork(config: str, work_dir: Path, options: dict, after: int | None) -> int:
    """Train in a child, which kills itself at a checksum, if told so."""
    child = os.fork()
    if child:
        return child
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        with open(work_dir / 'out.txt', 'a') as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        if after is not None:
            _die_at_checksum(after)
        from hkd_mm.training.trainer import train

        train(
            config,
            work_dir=str(work_dir),
            resume='auto',
            cfg_options=options,
        )
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _die_at_checksum(number: int) -> None:
    """SIGKILL in place of the checksum of an entry that is being written."""
    from hkd_mm.models.teacher_cache import cache_file

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


def _wait(child: int) -> int:
    """Exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _weights(folder: Path) -> dict:
    """Weights and momenta at the end of a training."""
    saved = torch.load(folder / f'epoch_{EPOCHS}.pth', weights_only=False)
    found = dict(saved['state_dict'])
    for number, state in saved['optimizer']['state'].items():
        for name, value in state.items():
            if torch.is_tensor(value):
                found[f'{number}.{name}'] = value
    return found


def _log(folder: str, name: str) -> str:
    return Path(folder, name, 'out.txt').read_text()[-2000:]


if __name__ == '__main__':
    main(**json.loads(sys.argv[1]))
