# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Which runs of a study are trained in one process."""

from collections.abc import Callable
from pathlib import Path

from hkd_mm.engine.together import stream_key

from ..config.compose import compose_config
from .plan import Run

Unit = tuple[Run, ...]


def units_of(
    runs: list[Run],
    together: int,
    stream_of: Callable[[Run], str | None],
) -> list[Unit]:
    """Gather runs that share their batches and wait for none of their own.

    Args:
        runs: in an order in which none builds on a later one.
        together: most runs of a unit.
        stream_of: equal texts: equal batches; None shares with nobody.

    Returns:
        Units in an order in which none builds on a later one; with
        ``together=1`` one a run, in their order.
    """
    if together == 1:
        return [(run,) for run in runs]
    depth: dict[str, int] = {}
    for run in runs:
        before = [run._replace(row=row) for row in _rows(runs, run)]
        depth[run.name] = max((depth[b.name] + 1 for b in before), default=0)
    gathered: dict[tuple, list[list[Run]]] = {}
    for run in sorted(runs, key=lambda run: depth[run.name]):
        stream = stream_of(run)
        if stream is None:
            stream = run.name
        place = depth[run.name], run.seed, run.fold, stream
        units = gathered.setdefault(place, [[]])
        if len(units[-1]) == together:
            units.append([])
        units[-1].append(run)
    return [tuple(unit) for units in gathered.values() for unit in units]


def _rows(runs: list[Run], run: Run) -> list:
    rows = {other.row.name: other.row for other in runs}
    return [rows[name] for name in run.row.after if name in rows]


def stream_of_run(run: Run, work_dir: Path, options: list[str]) -> str | None:
    """The stream of a run, see :func:`hkd_mm.engine.together.stream_key`."""
    cfg = compose_config(run.row.config, [*run.options(work_dir), *options])
    return stream_key(cfg)
