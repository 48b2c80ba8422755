# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``table.md``, and how figures are written."""

import statistics
from typing import Any

from .plan import Sweep
from .space import Choices


def markdown(sweep: Sweep, found: dict[str, Any]) -> str:
    """``table.md``: a map of two varied lists, all trials, the winner."""
    names = list(sweep.space)
    rows = [['trial', *names, sweep.metric, 'minutes', '']]
    for trial in found['trials']:
        rows.append(
            [
                str(trial['number']),
                *(brief(trial['params'].get(name, '')) for name in names),
                figure(trial['value']) + _spread(trial['values']),
                figure(trial['minutes'], 1),
                trial['state']
                if trial['state'] != 'fail'
                else f'failed: {trial["reason"]}',
            ]
        )
    parts = [f'# {sweep.title}\n', *_map(sweep, found), _table(rows)]
    winner = found['winner']
    if winner:
        test = winner['test'] or {}
        parts.append(
            f'\nWinner: trial {winner["number"]}, {sweep.metric} '
            f'{figure(winner["value"])} on validation. On the test split: '
            + ', '.join(f'{k} {figure(v)}' for k, v in test.items())
            + '.\n'
        )
    return '\n'.join([*parts, found['selection'] + '\n'])


def _map(sweep: Sweep, found: dict[str, Any]) -> list[str]:
    lists = list(sweep.space.items())
    if len(lists) != 2 or not all(isinstance(e, Choices) for _, e in lists):
        return []
    (down, rows), (across, columns) = lists
    cells = {
        (trial['params'].get(down), trial['params'].get(across)): trial
        for trial in found['trials']
    }
    table = [[f'{down} \\ {across}', *map(brief, columns.values)]]
    for row in rows.values:
        table.append(
            [
                brief(row),
                *(
                    figure(cells.get((row, column), {}).get('value'))
                    for column in columns.values
                ),
            ]
        )
    return [_table(table)]


def _table(rows: list[list[str]]) -> str:
    lines = [rows[0], ['---'] * len(rows[0]), *rows[1:]]
    return ''.join(
        f'| {" | ".join(_cell(c) for c in line)} |\n' for line in lines
    )


def _cell(text: str) -> str:
    return text.replace('|', '\\|').replace('\n', ' ')


def _spread(values: list[float] | None) -> str:
    """Sample standard deviation over the seeds."""
    many = values is not None and len(values) > 1
    return f' +- {statistics.stdev(values):.3f}' if many else ''


def figure(value: float | None, digits: int = 3) -> str:
    """A number for a table; nothing where there is none."""
    return '' if value is None else f'{value:.{digits}f}'


def brief(value: Any) -> str:
    """A value of the space; drawn numbers have more digits than one reads."""
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def listed(params: dict[str, Any]) -> str:
    """The values of a trial in one line."""
    return ', '.join(f'{name}={brief(v)}' for name, v in params.items())
