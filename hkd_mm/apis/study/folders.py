# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the folder of one run tells."""

import json
from pathlib import Path

from hkd_mm.errors import UserError

from ..run.run_files import TESTED

FAILED = 'failed.json'
CONSOLE = 'console.log'  # what its processes print


def is_done(folder: Path) -> bool:
    """Whether a run was trained and tested."""
    return is_trained(folder) and all(
        (folder / name).is_file() for name in TESTED
    )


def summary(folder: Path, metric: str) -> str:
    """One line on a finished run."""
    report = read_json(folder / 'metrics.json')
    return (
        f'done, {report["training_minutes"]:.1f} min, {metric} on validation '
        f'{report["best"][metric]:.3f}'
    )


def read_json(path: Path) -> dict:
    """A file that a run has left.

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


def is_trained(folder: Path) -> bool:
    """Whether a training came to its end."""
    return all(
        (folder / name).is_file() for name in ('metrics.json', 'student.pth')
    )
