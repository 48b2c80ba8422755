# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Curves and confusion matrix as PNG, drawn without a display."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..atomic_backend import AtomicBackend


def save_curves(
    records: Sequence[dict], path: str | Path, best_epoch: int | None = None
) -> None:
    """Draw every loss part and every validation metric over the epochs.

    Args:
        records: those of :class:`History`, oldest first; metrics of single
            classes (with a slash) are not drawn.
        path: the PNG.
        best_epoch: marked by a vertical line.
    """
    rows = (('train', 'training loss'), ('val', 'validation metric'))
    figure = _figure(9, 8)
    for position, (part, label) in enumerate(rows, 1):
        axes = figure.add_subplot(len(rows), 1, position)
        names = dict.fromkeys(
            name
            for record in records
            for name in record.get(part, ())
            if '/' not in name
        )
        for name in names:
            points = [
                (r['epoch'], r[part][name])
                for r in records
                if r.get(part, {}).get(name) is not None
            ]
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
    """Draw a confusion matrix, shaded by row share, with counts.

    Args:
        confusion: (C, C) counts, true class by row.
        classes: C names.
        path: the PNG.
        title: put above.
    """
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 3 + 0.6 * len(classes)
    figure = _figure(side + 1, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
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
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=45, ha='right')
    axes.set_yticks(ticks, classes)
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
