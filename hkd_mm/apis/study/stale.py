# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Runs in the work dir that are not those the study asks for now."""

import shutil
from collections import defaultdict
from pathlib import Path

from hkd_mm.errors import UserError

from ..run.finished import read_stages
from .keys import Keys, changed
from .plan import Run

WAYS = ('refuse', 'keep', 'redo')


def settle_stale(
    runs: list[Run], keys: Keys, work_dir: Path, way: str
) -> dict[str, list[str]]:
    """Find runs of another config, split or code and do what is wanted.

    Args:
        runs: of the study.
        keys: of the study.
        work_dir: of the study.
        way: ``keep`` takes them as they are, and goes on with those that
            were broken off; ``redo`` moves each to ``<run>_stale<n>``, with
            what its config trains first, so that all is trained again;
            ``refuse`` does neither.

    Returns:
        Name of the run -> what is other about it, of those that are kept.

    Raises:
        UserError: there are some and ``refuse`` is wanted.
    """
    found: dict[str, list[str]] = {}
    for run in runs:
        folder = run.folder(work_dir)
        reasons = changed(folder, keys.of(run)) if _begun(folder) else []
        if not reasons:
            continue
        if way == 'redo':
            # read before the folder is moved
            for old in [*map(Path, read_stages(folder)), folder]:
                if old.exists():
                    _set_aside(old)
        else:
            found[run.name] = reasons
    if found and way == 'refuse':
        raise UserError(
            f'{work_dir} holds {len(found)} runs of another study: '
            f'{_told(found)}; --stale keep takes them as they are, --stale '
            'redo trains them again beside the old ones'
        )
    return found


def _begun(folder: Path) -> bool:
    return (folder / 'metrics.json').exists() or any(folder.glob('epoch_*'))


def _set_aside(folder: Path) -> None:
    number = 1
    while (place := Path(f'{folder}_stale{number}')).exists():
        number += 1
    shutil.move(folder, place)


def _told(found: dict[str, list[str]]) -> str:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, reasons in found.items():
        by_reason[' and '.join(reasons)].append(name)
    return '; '.join(
        f'{reason}: {", ".join(names[:3])}'
        + (f' and {len(names) - 3} more' if len(names) > 3 else '')
        for reason, names in by_reason.items()
    )
