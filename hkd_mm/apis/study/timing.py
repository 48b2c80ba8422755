# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How long the nets of a study take, measured in turns."""

from collections.abc import Callable
from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.parallel import default_workers

from .folders import is_trained
from .plan import Run


def time_nets(
    runs: list[Run], work_dir: Path, say: Callable[[str], None]
) -> None:
    """Leave ``latency.json`` in a run of each row, unless all have one.

    Batches of one image, in torch, on all cores. The nets take turns, so
    that their ratios hold; a new row has all of them timed again. What
    cannot be timed leaves its column empty, and the trainings their table.

    Args:
        runs: of the study.
        work_dir: of the study.
        say: takes a line on what went wrong.
    """
    from ..latency.run_latency import latency

    folders = {}
    for run in runs:
        folder = run.folder(work_dir)
        if run.row.name not in folders and is_trained(folder):
            folders[run.row.name] = folder
    left = [f for f in folders.values() if not (f / 'latency.json').is_file()]
    if not left:
        return
    try:
        latency(
            [f'{name}={folder}' for name, folder in folders.items()],
            runtimes=['eager'],
            batches=[1],
            threads=[default_workers()],
            rounds=3,
            seconds=0.5,
            for_report=True,
        )
    except UserError as error:
        say(f'the nets were not timed: {error}')
