# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Finished runs side by side."""

import json
from pathlib import Path
from typing import NamedTuple

from hkd_mm.errors import UserError
from hkd_mm.evaluation.classification_scores import answers_one_class
from hkd_mm.evaluation.metric_names import CLASS_SUMMARY, title_of
from hkd_mm.inference.student import named

_METRICS = CLASS_SUMMARY[:3]  # without the AUROC


class Row(NamedTuple):
    """One run.

    Args:
        name: what the reader calls it.
        split: ``test``, or ``validation`` where the run was not tested.
        metrics: metric key -> value, fractions.
        parameters: of the network, the student's for a distillation.
        gmacs: multiply-accumulates for an image, in 1e9.
        minutes: of training, without validation.
    """

    name: str
    split: str
    metrics: dict[str, float]
    parameters: int
    gmacs: float
    minutes: float


def read_run(run: str) -> Row:
    """Read a work dir: ``metrics.json``, and ``test.json`` if it is there.

    Args:
        run: ``DIR``, or ``NAME=DIR``; without a name that of the folder.

    Raises:
        UserError: the folder holds no finished run.
    """
    name, folder = named(run)
    path = Path(folder)
    report = _read(path / 'metrics.json')
    if report is None:
        raise UserError(
            f'{path} holds no metrics.json; give the work dir of '
            'a finished training'
        )
    tested = _read(path / 'test.json')
    metrics = tested or report.get('best') or report.get('last')
    if not metrics:
        raise UserError(
            f'{path} was neither tested nor validated; run: python '
            f'tools/test.py {path}'
        )
    network = report['student']
    return Row(
        name or path.name,
        'test' if tested else 'validation',
        metrics,
        network['parameters'],
        network['gmacs'],
        report['training_minutes'],
    )


def _read(path: Path) -> dict | None:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError:
        raise UserError(
            f'{path} is damaged: no JSON; remove it and run the '
            'tool that wrote it again'
        ) from None


def as_table(rows: list[Row], title: str | None = None):
    """The rows as a ``rich.table.Table``; the best of each metric is bold."""
    from rich.table import Table

    table = Table(title=title)
    table.add_column('network')
    splits = sorted({row.split for row in rows})
    if len(splits) > 1:
        table.add_column('split')
    for header in (*map(title_of, _METRICS), 'parameters', 'GMACs', 'minutes'):
        table.add_column(header, justify='right')
    best = {
        key: max((row.metrics.get(key) or 0) for row in rows)
        for key in _METRICS
    }
    for row in rows:
        collapsed = answers_one_class(row.metrics)
        cells = [row.name + ' *' * collapsed]
        cells += [row.split] * (len(splits) > 1)
        cells += [_metric(row.metrics.get(key), best[key]) for key in _METRICS]
        table.add_row(
            *cells,
            f'{row.parameters / 1e6:.3f} M',
            f'{row.gmacs:.3f}',
            f'{row.minutes:.1f}',
        )
    table.caption = f'on the {" or the ".join(splits)} split'
    if any(answers_one_class(row.metrics) for row in rows):
        table.caption += '; * ONE CLASS ONLY: predicts one for every image'
    return table


def _metric(value: float | None, best: float) -> str:
    if value is None:
        return '-'
    text = f'{value:.3f}'
    return f'[bold]{text}[/bold]' if value == best else text


def compare(runs: list[str], title: str | None = None) -> list[Row]:
    """Print runs side by side.

    Args:
        runs: as :func:`read_run` takes them.
        title: printed above.

    Returns:
        What was printed, in the same order.
    """
    from rich.console import Console

    rows = [read_run(run) for run in runs]
    console = Console()
    if not console.is_terminal:  # a log file has no width
        console = Console(width=100)
    console.print(as_table(rows, title))
    return rows
