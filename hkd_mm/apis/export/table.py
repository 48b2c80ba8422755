# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What an export has measured, in two tables."""

from .making import Making


def print_table(making: Making) -> None:
    """Print the files, and each class's recall; also of one refused."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f'validation, {len(making.val.labels)} images')
    table.add_column('file')
    for name in ('MB', 'max difference', 'balanced accuracy'):
        table.add_column(name, justify='right')
    for kind, spec in making.files.items():
        figures = making.measured.get(kind)
        table.add_row(
            spec.path,
            f'{spec.bytes / 1e6:.2f}',
            _difference(making, kind),
            f'{100 * figures["balanced_accuracy"]:.2f}' if figures else '-',
        )
    console.print(table)
    if 'int8' not in making.measured:
        return
    recalls = Table(title='recall of each class')
    recalls.add_column('class')
    for name in ('fp32', 'int8', 'points'):
        recalls.add_column(name, justify='right')
    after = making.measured['int8']['recall']
    for name, value in making.measured['fp32']['recall'].items():
        if value is None:
            recalls.add_row(name, '-', '-', '-')
            continue
        points = 100 * (after[name] - value)
        recalls.add_row(
            name,
            f'{100 * value:.1f}',
            f'{100 * after[name]:.1f}',
            f'{points:+.1f}',
        )
    console.print(recalls)


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
