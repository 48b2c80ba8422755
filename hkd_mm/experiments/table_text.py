# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Figures as text, for every table of studies, sweeps and reports."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # sweeps go without torch
    from hkd_mm.experiments.outcome import MethodResult


def make_console(width: int = 200, **options) -> Console:
    """A console that shows texts as they are; a log file gets a width."""
    options |= dict(highlight=False, markup=False, emoji=False)
    console = Console(**options)
    return console if console.is_terminal else Console(width=width, **options)


def make_table(
    title: str | None,
    columns: Iterable[str],
    rows: Iterable[Iterable],
    left: int = 1,
    caption: str | None = None,
) -> Table:
    """A table for a terminal; columns from ``left`` on are numbers."""
    table = Table(title=title, caption=caption)
    for index, name in enumerate(columns):
        table.add_column(name, justify='left' if index < left else 'right')
    for row in rows:
        table.add_row(*row)
    return table


def format_figure(value: float | None, digits: int = 3) -> str:
    """``0.383``; nothing of None."""
    return '' if value is None else f'{value:.{digits}f}'


def format_mean_sd(mean: float, sd: float) -> str:
    """``0.383 +- 0.056``; the mean alone of one seed, nothing of none."""
    if math.isnan(mean):
        return ''
    return f'{mean:.3f}' + ('' if math.isnan(sd) else f' +- {sd:.3f}')


def format_interval(interval: tuple[float, float]) -> str:
    """``[0.351, 0.422]``; nothing where it is not known."""
    low, high = interval
    return '' if math.isnan(low) else f'[{low:.3f}, {high:.3f}]'


def format_p_value(p: float) -> str:
    """``p 0.044``; a bound where three digits show none."""
    return 'p < 0.001' if p < 0.001 else f'p {p:.3f}'


def format_difference(outcome: MethodResult, baseline: str) -> str:
    """``+0.053 [-0.060, +0.165], p 1.000``; nothing of no difference."""
    found = outcome.against.get(baseline)
    if found is None:
        return ''
    p = format_p_value(outcome.adjusted[baseline])
    return f'{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {p}'


def format_setting(value: Any) -> str:
    """A setting; drawn numbers have more digits than one reads."""
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def format_params(params: dict[str, Any]) -> str:
    """``alpha=0.85, tau=4.0``."""
    return ', '.join(f'{name}={format_setting(v)}' for name, v in params.items())


def are_unknown(sample_ids: list[str], groups: list[str]) -> bool:
    """Whether no lesion or patient is known: each image is its own."""
    return list(sample_ids) == list(groups)


def format_image_count(sample_ids: list[str], groups: list[str], of: str) -> str:
    """``300 images of 155 lesions``, or ``300 images, lesions unknown``."""
    if are_unknown(sample_ids, groups):
        return f'{len(groups)} images, {of} unknown'
    count = len(set(groups))
    return f'{len(groups)} images of {count} {of if count > 1 else of[:-1]}'


def unknown_groups_note(of: str) -> str:
    """A sentence on what follows where no lesion or patient is known."""
    return (
        f'With {of} unknown each image counts for itself, and images of one '
        f'{of[:-1]} may be in training and in test: figures may be too good '
        'and intervals too narrow.'
    )


def unit_name(outcomes: list[MethodResult]) -> str:
    """A sentence on the unit of distances; empty where there are none."""
    tests = [test for outcome in outcomes for test in outcome.tests]
    units = {test['hd95_unit'] for test in tests if 'hd95_unit' in test}
    titles = dict(mm='mm', pixel="pixels of the network's images")
    named = ' or '.join(titles[unit] for unit in sorted(units))
    return f' Distances in {named}.' if named else ''


def row_title(outcome: MethodResult) -> str:
    """Title of a row; tells of fewer seeds, and marks a run that predicts one class."""
    count = len(outcome.predictions.chosen)
    seeds = f' ({count} seed{"s" * (count > 1)})' * outcome.fewer_seeds
    return outcome.row.title + seeds + ' *' * bool(outcome.one_class_runs)


def one_class_note(outcomes: list[MethodResult]) -> str:
    """The footnote to that mark; empty where there is none."""
    found = [
        f'{o.row.title} in {o.one_class_runs} of {len(o.tests)}'
        for o in outcomes
        if o.one_class_runs
    ]
    if not found:
        return ''
    return (
        ' * ONE CLASS ONLY: predicts one class for every test image, '
        f'{"; ".join(found)} runs.'
    )
