# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What an earlier run left in a work dir where a new one begins."""

import os
import shutil
from pathlib import Path

from mmengine.config import Config

from .finished import BEGUN

# The logs have a folder for every start and stay.
_MOVED = (
    'epoch_*.pth',
    'iter_*.pth',
    'best_*.pth',
    'student.pth',
    'last_checkpoint',
    'finished.json',
    'history.json',
    'metrics.json',
    'environment.json',
    'curves.png',
    'confusion_matrix.png',
    'test*.json',
    'predictions*.csv',
)


def set_aside(cfg: Config) -> None:
    """Move an earlier run's checkpoints and figures into a sub-folder.

    Of two runs in one folder nobody could tell which the best checkpoint
    belongs to. Nothing is deleted, and the run that was moved can be resumed
    from its new place. Where ``load_from``, ``model.teacher_ckpt`` or the
    ``ckpt`` of one of several teachers names a moved file, it follows.

    Args:
        cfg: of a run that starts anew, with ``work_dir`` set.
    """
    from mmengine.dist import (
        barrier,
        broadcast_object_list,
        is_main_process,
    )

    barrier()  # every process has read the files it starts from
    name = os.path.basename(cfg.filename or '')
    answer = [_move(Path(cfg.work_dir), name) if is_main_process() else None]
    broadcast_object_list(answer)
    target = answer[0]
    if target is None:
        return
    teachers = [(net, 'ckpt') for net in cfg.model.get('teachers') or ()]
    named = [(cfg, 'load_from'), (cfg.model, 'teacher_ckpt'), *teachers]
    for group, key in named:
        path = group.get(key)
        if path and '://' not in path and not os.path.isfile(path):
            inside = os.path.dirname(os.path.abspath(path))
            if inside == os.path.abspath(cfg.work_dir):
                group[key] = os.path.join(target, os.path.basename(path))
    if is_main_process():
        print(
            f'EARLIER RUN: {cfg.work_dir} held checkpoints; they are in '
            f'{target} now (--resume would have gone on with them)',
            flush=True,
        )


def _move(folder: Path, config: str) -> str | None:
    found = [path for glob in _MOVED for path in sorted(folder.glob(glob))]
    if not any(path.suffix == '.pth' for path in found):
        return None
    number = 1
    while (target := folder / f'earlier_{number}').exists():
        number += 1
    target.mkdir()
    for path in found:
        path.rename(target / path.name)
    # Of the run that was; the new one writes its own over them. Not moved: in
    # a work dir that holds the user's own configs it is one of those.
    for name in filter(None, (config, BEGUN)):
        if (folder / name).is_file():
            shutil.copy2(folder / name, target / name)
    return str(target)
