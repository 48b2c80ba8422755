# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Are probabilities to be believed, before and after temperature scaling?"""

from typing import NamedTuple

import numpy as np

from hkd_mm.evaluation.classification_scores import (
    expected_calibration_error,
)
from hkd_mm.evaluation.temperature import (
    fit_temperature,
    log_loss,
    tempered,
)

from ..study.outcome import spread
from ..study.words import plus_minus
from .charts import figure, line, shown, wrapped
from .page import Chart, Section, Table
from .runs import Material, Method

_BINS = 10


class Bins(NamedTuple):
    """Equal-width bins of the confidence that hold an image.

    Args:
        confidence: mean of each.
        accuracy: share of right predictions of each.
        counts: images in each.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray


def reliability(
    scores: np.ndarray, labels: np.ndarray, bins: int = _BINS
) -> Bins:
    """Confidence against accuracy.

    Args:
        scores: (N, C) probabilities.
        labels: (N,) int.
        bins: how many, ``((b - 1) / bins, b / bins]`` each.
    """
    confidence = scores.max(1)
    right = scores.argmax(1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    kept = counts > 0
    means = [
        np.bincount(index, values, bins)[kept] / counts[kept]
        for values in (confidence, right)
    ]
    return Bins(*means, counts[kept])


def calibration(material: Material) -> Section:
    """Reliability diagrams and a table of the errors."""
    scaled = {
        method.name: _scaled(method)
        for method in material.methods
        if method.val_scores is not None
    }
    charts = [
        _chart(
            material,
            'before temperature scaling',
            {method.name: method.scores for method in material.methods},
        )
    ]
    if scaled:
        after = {name: scores for name, (_, scores) in scaled.items()}
        charts.append(_chart(material, 'after temperature scaling', after))
    rows = [
        _row(material, method, scaled.get(method.name))
        for method in material.methods
    ]
    header = ['method', 'ECE', 'log loss', 'temperature', 'ECE after']
    header.append('log loss after')
    table = Table('Calibration errors, mean +- sd.', header, rows)
    how = (
        'On the diagonal, of the images with a confidence of 80 per cent 80 '
        'per cent are right; below it a net is too sure. One temperature a '
        'net is fitted on the validation split and applied to the test '
        'split; ECE has 15 bins, the diagram 10.'
    )
    blocks = [*charts, table]
    return Section(
        'calibration',
        'Calibration',
        how,
        ' '.join([material.basis, *map('{}.'.format, material.problems)]),
        blocks,
        tile=420,
    )


def _scaled(method: Method) -> tuple[list[float], np.ndarray]:
    found = [fit_temperature(s, method.val_labels) for s in method.val_scores]
    scores = [tempered(s, t) for s, t in zip(method.scores, found)]
    return found, np.stack(scores)


def _row(material: Material, method: Method, scaled) -> list:
    cells: list = [method.title, *_errors(method.scores, material.labels)]
    if scaled is None:
        return [*cells, 'no validation scores', '', '']
    found, scores = scaled
    told = spread(found)
    cells.append((plus_minus(*told), told[0]))
    return [*cells, *_errors(scores, material.labels)]


def _errors(scores: np.ndarray, labels: np.ndarray) -> list:
    cells = []
    for error in (expected_calibration_error, log_loss):
        told = spread([error(one, labels) for one in scores])
        cells.append((plus_minus(*told), told[0]))
    return cells


def _chart(material: Material, when: str, scores: dict) -> Chart:
    from plotly import graph_objects as go

    traces = [
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode='lines',
            line=dict(color='#8a8f98', dash='dot', width=1),
            showlegend=False,
            hoverinfo='skip',
        )
    ]
    for method in material.methods:
        if method.name not in scores:
            continue
        traces.append(_trace(material, method, scores[method.name]))
    made = figure(
        traces,
        'confidence',
        'accuracy',
        legend=dict(orientation='h', y=-0.2, yanchor='top'),
    )
    made.update_xaxes(range=[0, 1])
    made.update_yaxes(range=[0, 1])
    alt = f'Accuracy against confidence {when}, all seeds together.'
    return Chart(f'reliability-{when.split()[0]}', made, alt, 440)


def _trace(material: Material, method: Method, every: np.ndarray):
    from plotly import graph_objects as go

    labels = np.tile(material.labels, len(every))
    found = reliability(np.concatenate(list(every)), labels)
    return go.Scatter(
        x=np.round(found.confidence, 4),
        y=np.round(found.accuracy, 4),
        customdata=found.counts,
        name=wrapped(method.title, 26),
        mode='lines+markers',
        line=line(material, method),
        visible=shown(material, method),
        hovertemplate='confidence %{x:.2f}, accuracy %{y:.2f}, '
        '%{customdata} predictions',
    )
