# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Files that a training leaves in its work dir, and those of its test."""

import re
from pathlib import Path
from typing import NamedTuple

from hkd_mm.errors import UserError

STUDENT = 'student.pth'
TESTED = ('test.json', 'predictions.csv')  # what tools/test.py adds
_OF_A_RUN = (STUDENT, 'metrics.json', 'environment.json')


class FinishedRun(NamedTuple):
    """Work dir, whole config and plain best student of a finished training."""

    folder: Path
    config: Path
    student: Path


def finished_run(folder: str | Path) -> FinishedRun:
    """Find config and student of a finished training."""
    folder = Path(folder)
    student = folder / STUDENT
    if not student.is_file():
        lacks = f'holds no {STUDENT}' if folder.is_dir() else 'does not exist'
        raise UserError(f'{folder} {lacks}; give the work dir of a finished training')
    return FinishedRun(folder, run_config(folder), student)


def run_folder_of(checkpoint: str | Path) -> Path | None:
    """Return the work dir of the run that a checkpoint lies in, or None."""
    folder = Path(checkpoint).parent
    if not any((folder / name).is_file() for name in _OF_A_RUN):
        return None
    return folder if len(list(folder.glob('*.py'))) == 1 else None


def run_config(folder: Path) -> Path:
    """Find the whole config in a work dir."""
    found = sorted(folder.glob('*.py'))
    if len(found) != 1:
        raise UserError(
            f'{folder} holds {len(found)} configs; the work dir of a training holds one'
        )
    return found[0]


def is_old(name: str) -> bool:
    """Whether a study set the folder of this name aside to train it again."""
    return bool(re.search(r'_stale\d+(/|$)', name))
