# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What an export has measured, in two tables."""

from rich.console import Console
from rich.table import Table

from .making import Making


def print_table(making: Making) -> None:
    """Print the files, and each class's recall; also of one refused."""
    console = Console()
    table = Table(title=f'validation, {len(making.val)} images')
    table.add_column('file')
    key, score = making.score
    for name in ('MB', 'max difference', score):
        table.add_column(name, justify='right')
    for kind, spec in making.files.items():
        figures = making.measured.get(kind)
        table.add_row(
            spec.path,
            f'{spec.bytes / 1e6:.2f}',
            _difference(making, kind),
            f'{100 * figures[key]:.2f}' if figures else '-',
        )
    console.print(table)
    if 'int8' in making.measured:
        console.print(_parts(making))
    if 'sure_by_class' in making.checks:
        console.print(_sure(making))


def _parts(making: Making) -> Table:
    table = Table(title=making.parts)
    table.add_column('')
    for name in ('fp32', 'int8', 'points'):
        table.add_column(name, justify='right')
    after = making.figures_by_part('int8')
    for name, value in making.figures_by_part('fp32').items():
        both = (value, after[name])
        cells = ['-' if one is None else f'{100 * one:.1f}' for one in both]
        points = '-'
        if None not in both:
            points = f'{100 * (after[name] - value):+.1f}'
        table.add_row(name, *cells, points)
    return table


def _sure(making: Making) -> Table:
    """Sure answers to images of each class, and sure ones that name it."""
    table = Table(title='sure answers on validation')
    table.add_column('class')
    for name in ('images', 'surely right', 'surely wrong', 'said surely'):
        table.add_column(name, justify='right')
    for name, found in making.checks['sure_by_class'].items():
        table.add_row(name, *map(str, found.values()))
    return table


def _difference(making: Making, kind: str) -> str:
    """Largest of a file, against what it was made of."""
    checks = making.checks
    if kind == 'int8':
        found = checks['int8']['max_logit_difference']
        return f'{found:.1e} (logits)'
    key = 'logits' if kind == 'fp32' else kind
    if key not in checks:
        return '-'
    what = 'scores' if kind.endswith('image') else 'logits'
    return f'{checks[key]["max"]:.1e} ({what})'
