# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The closing table of a run."""

from rich import box
from rich.table import Table

_SHOWN = (
    ('balanced_accuracy', 'balanced accuracy'),
    ('top1', 'top-1'),
    ('top5', 'top-5'),
    ('macro_f1', 'macro F1'),
    ('macro_auroc', 'macro AUROC'),
    ('ece', 'ECE'),
    ('dice', 'Dice of a slice'),
    ('patient_dice', 'Dice of a patient'),
    ('iou', 'IoU'),
    ('hd95', '95 % Hausdorff distance'),
)


def closing_table(report: dict, work_dir: str, plain: bool) -> Table:
    """Put the figures of a run into a table of two columns.

    Args:
        report: what :func:`summarise` returned.
        work_dir: where everything lies; the last row.
        plain: draw lines in ASCII, for files and pipes.

    Returns:
        A table for a rich console.
    """
    table = Table(
        title=report['config'] or 'run',
        title_justify='left',
        show_header=False,
        box=box.ASCII if plain else box.ROUNDED,
    )
    table.add_column(no_wrap=True)
    table.add_column(justify='right', overflow='fold')
    chosen = report['best'] or report['last']
    if chosen:
        kind = 'best' if report['best'] else 'last'
        table.add_row(
            f'{kind} validation',
            f'epoch {chosen["epoch"]} of {report["epochs"]}',
        )
        for key, label in _SHOWN:
            if chosen.get(key) is not None:
                table.add_row(label, f'{chosen[key]:.4f}')
    table.add_section()
    for role in ('student', 'teacher'):
        if role in report:
            costs = report[role]
            side = costs['input_size'][0]
            table.add_row(
                role,
                f'{_count(costs["parameters"])} parameters, '
                f'{costs["gmacs"]:.2g} GMACs at {side}',
            )
    table.add_row(
        'training', f'{report["training_minutes"]:.1f} min' + _speed(report)
    )
    if report['checkpoint']:
        table.add_row(
            report['checkpoint']['file'],
            f'{report["checkpoint"]["megabytes"]:.1f} MB',
        )
    table.add_row('work dir', work_dir)
    return table


def _speed(report: dict) -> str:
    speed = report['images_per_second']
    return '' if speed is None else f', {speed:.0f} images/s'


def _count(number: int) -> str:
    return f'{number / 1e6:.2f} M' if number >= 1e5 else f'{number:,}'
