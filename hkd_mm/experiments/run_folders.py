# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Files in the folders of runs, read and written.

Workers of a sweep live as long as its trainings: nothing here imports torch.
"""

import json
import os
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError

TRAINED = ('metrics.json', 'student.pth')
TESTED = ('test.json', 'predictions.csv')
CONSOLE = 'console.log'  # what its processes print
FAILED = 'failed.json'


def has_files(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether all of these files are there."""
    return all((folder / name).is_file() for name in names)


def is_trained(folder: Path) -> bool:
    """Whether a training came to its end."""
    return has_files(folder, TRAINED)


def is_done(folder: Path) -> bool:
    """Whether a run was trained and tested."""
    return has_files(folder, TRAINED + TESTED)


def is_resumable(folder: Path) -> bool:
    """Whether a training has left a checkpoint."""
    return any(folder.glob('epoch_*.pth'))


def read_json(path: Path) -> dict:
    """Read a file that a finished run has left.

    Raises:
        UserError: it is not there or damaged.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(
            f'{path} cannot be read ({error}); remove its folder and the run '
            'is done again'
        ) from None


def read_json_if_whole(path: Path) -> Any:
    """Read a file; None where there is none or half of one."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None


def read_history(folder: Path) -> list[dict[str, Any]] | None:
    """Read the records of the epochs so far; None before the first."""
    return read_json_if_whole(folder / 'history.json')


def describe(folder: Path, metric: str) -> str:
    """Describe a finished run in one line."""
    report = read_json(folder / 'metrics.json')
    return (
        f'done, {report["training_minutes"]:.1f} min, {metric} on validation '
        f'{report["best"][metric]:.3f}'
    )


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or not there; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    with part.open('w', encoding='utf-8') as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def write_json(path: Path, value: Any) -> None:
    """As :func:`write_text`; what JSON does not know becomes text."""
    write_text(path, json.dumps(value, indent=1, default=str) + '\n')
