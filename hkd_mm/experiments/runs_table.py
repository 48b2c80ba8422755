# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Finished runs side by side."""

from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from hkd_mm.errors import UserError
from hkd_mm.evaluation.classification_scores import answers_one_class
from hkd_mm.experiments.run_folders import RunReport, figure, read_report
from hkd_mm.experiments.table_text import make_console, make_table
from hkd_mm.inference.student import named
from hkd_mm.metric_names import CLASS_SUMMARY, title_of

_METRICS = CLASS_SUMMARY[:3]  # without the AUROC


class RunRow(NamedTuple):
    """One run, on ``validation`` where it was not tested, and its ``metrics.json``."""

    name: str
    split: str
    metrics: dict[str, Any]
    report: RunReport


def compare(runs: list[str], title: str | None = None) -> list[RunRow]:
    """Print runs, ``DIR`` or ``NAME=DIR``, side by side and return their rows."""
    rows = [read_row(run) for run in runs]
    make_console(100).print(_table(rows, title))
    return rows


def read_row(run: str) -> RunRow:
    """Read a work dir: ``metrics.json``, and ``test.json`` if it is there."""
    name, folder = named(run)
    path = Path(folder)
    if not (path / 'metrics.json').is_file():
        raise UserError(
            f'{path} holds no metrics.json; give the work dir of a finished training'
        )
    report = read_report(path / 'metrics.json')
    tested = (path / 'test.json').is_file()
    metrics = (
        read_report(path / 'test.json')
        if tested
        else report.get('best') or report.get('last')
    )
    if not metrics:
        raise UserError(
            f'{path} was neither tested nor validated; run: python tools/test.py {path}'
        )
    split = 'test' if tested else 'validation'
    return RunRow(name or path.name, split, metrics, report)


def _table(rows: list[RunRow], title: str | None) -> Table:
    """The best of each metric is bold."""
    splits = sorted({row.split for row in rows})
    several, cells = len(splits) > 1, []
    columns = ['network', *['split'] * several, *map(title_of, _METRICS)]
    best = {key: max(row.metrics.get(key) or 0 for row in rows) for key in _METRICS}
    for row in rows:
        network = row.report.get('student') or {}
        figures = [
            Text('-' if v is None else f'{v:.3f}', 'bold' if v == best[key] else '')
            for key, v in ((key, row.metrics.get(key)) for key in _METRICS)
        ]
        parameters = f'{figure(network, "parameters") / 1e6:.3f} M'
        costs = [parameters, f'{figure(network, "gmacs"):.3f}']
        marked = row.name + ' *' * answers_one_class(row.metrics)
        minutes = f'{row.report["training_minutes"]:.1f}'
        cells.append([marked, *[row.split] * several, *figures, *costs, minutes])
    caption = f'on the {" or the ".join(splits)} split'
    if any(answers_one_class(row.metrics) for row in rows):
        caption += '; * ONE CLASS ONLY: predicts one for every image'
    columns += ['parameters', 'GMACs', 'minutes']
    return make_table(title, columns, cells, 1 + several, caption)
