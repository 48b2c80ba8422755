# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Curves, confusion matrix and closing table of a run."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from hkd_mm.io.atomic_files import AtomicBackend
from hkd_mm.io.picture_text import set_labels
from hkd_mm.metric_names import CLASS_SUMMARY, MASK_SUMMARY, title_of


def save_curves(
    records: Sequence[dict], path: str | Path, best_epoch: int | None = None
) -> None:
    """Draw losses and metrics, but of single classes, over the epochs of a history.

    A vertical line marks the best epoch.
    """
    rows = (('train', 'training loss'), ('val', 'validation metric'))
    figure = _figure(9, 8)
    for position, (part, label) in enumerate(rows, 1):
        axes = figure.add_subplot(len(rows), 1, position)
        names = dict.fromkeys(n for r in records for n in r.get(part, ()))
        names = [name for name in names if '/' not in name]
        for name in names:
            points = [(r['epoch'], r.get(part, {}).get(name)) for r in records]
            points = [(epoch, value) for epoch, value in points if value is not None]
            if points:
                axes.plot(*zip(*points), marker='.', label=name)
        if best_epoch is not None:
            axes.axvline(best_epoch, color='grey', linestyle=':')
        axes.set(xlabel='epoch', ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if names:
            axes.legend(fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def save_confusion(
    confusion: Sequence[Sequence[int]],
    classes: Sequence[str],
    path: str | Path,
    title: str = '',
) -> None:
    """Draw (C, C) counts, true class by row, shaded by row share."""
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(3 + 0.6 * len(classes), 21)
    figure = _figure(side + 1, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    few = len(classes) <= 30
    for row, column in np.ndindex(*counts.shape) if few else ():
        share = shares[row, column]
        axes.text(
            column,
            row,
            f'{counts[row, column]}\n{share:.0%}',
            ha='center',
            va='center',
            fontsize=8,
            color='white' if share > 0.5 else 'black',
        )
    # a label's height in points is at most the share of its row of the axis
    size = min(10, 0.75 * 72 * side / max(len(classes), 1))
    turned = dict(rotation=45, ha='right') if few else dict(rotation=90)
    set_labels(axes.xaxis, classes, **turned, fontsize=size)
    set_labels(axes.yaxis, classes, fontsize=size)
    axes.set(xlabel='predicted', ylabel='true', title=title)
    figure.colorbar(image, label='share of the true class', shrink=0.8)
    _save(figure, path)


def _figure(width: float, height: float):
    """A figure of its own: pyplot's state and backend are left alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def _save(figure, path: str | Path) -> None:
    with io.BytesIO() as buffer:
        figure.savefig(buffer, format='png', dpi=120)
        AtomicBackend().put(buffer.getvalue(), path)


def closing_table(report: dict, work_dir: str, plain: bool) -> Table:
    """Put what :func:`summarise` returned into a table; ``plain`` is in ASCII."""
    table = Table(
        title=escape(report['config'] or 'run'),
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
            f'{kind} validation', f'epoch {chosen["epoch"]} of {report["epochs"]}'
        )
        for key in (*CLASS_SUMMARY, 'ece', *MASK_SUMMARY):
            if chosen.get(key) is not None:
                table.add_row(title_of(key), f'{chosen[key]:.4f}')
    table.add_section()
    for role in ('student', 'teacher'):
        if role in report:
            costs = report[role]
            number, side = costs['parameters'], costs['input_size'][0]
            shown = f'{number / 1e6:.2f} M' if number >= 1e5 else f'{number:,}'
            costs = f'{shown} parameters, {costs["gmacs"]:.2g} GMACs at {side}'
            table.add_row(role, costs)
    speed = report['images_per_second']
    speed = '' if speed is None else f', {speed:.0f} images/s'
    table.add_row('training', f'{report["training_minutes"]:.1f} min{speed}')
    if report['checkpoint']:
        file, size = report['checkpoint']['file'], report['checkpoint']['megabytes']
        table.add_row(escape(file), f'{size:.1f} MB')
    table.add_row('work dir', escape(work_dir))
    return table
