# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Results by class: F1, confusion, operating points."""

from functools import partial

import numpy as np

from hkd_mm.evaluation.significance import bootstrap_interval
from hkd_mm.experiments.outcome import spread
from hkd_mm.experiments.tables import format_interval, format_mean_sd
from hkd_mm.report.charts import (
    DIVERGING,
    figure,
    heat_map,
    line,
    shown,
    wrapped,
)
from hkd_mm.report.data import Method, ReportData
from hkd_mm.report.page import Chart, Section, Table


def mean_f1(method: Method, labels: np.ndarray) -> np.ndarray:
    """F1 of each class, mean over the seeds.

    Args:
        method: whose.
        labels: (N,) int.

    Returns:
        (C,) in [0, 1], NaN of a class without an image.
    """
    from sklearn.metrics import f1_score

    every = np.arange(method.scores.shape[2])
    found = [
        f1_score(labels, row, labels=every, average=None, zero_division=0)
        for row in method.chosen
    ]
    present = np.isin(every, labels)
    return np.where(present, np.mean(found, 0), np.nan)


def confusion(method: Method, labels: np.ndarray) -> np.ndarray:
    """Of the images of each class, the share given each class.

    Args:
        method: whose.
        labels: (N,) int.

    Returns:
        (C, C), true class by row, mean over the seeds; NaN of a class
        without an image.
    """
    from sklearn.metrics import confusion_matrix

    every = np.arange(method.scores.shape[2])
    total = sum(
        confusion_matrix(labels, row, labels=every) for row in method.chosen
    )
    sums = total.sum(1, keepdims=True)
    return np.where(sums > 0, total / np.maximum(sums, 1), np.nan)


def per_class(material: ReportData) -> Section:
    """The heat map of F1, methods by classes."""
    counts = np.bincount(material.labels, minlength=len(material.classes))
    values = np.array([mean_f1(m, material.labels) for m in material.methods])
    titles = [method.title for method in material.methods]
    made = heat_map(values, titles, material.classes, (0, 1))
    made.update_xaxes(side='top')
    made.update_layout(margin=dict(t=48, b=16))
    told = ', '.join(
        f'{name} {count}' for name, count in zip(material.classes, counts)
    )
    worst = material.classes[int(np.nanargmin(np.nanmean(values, 0)))]
    alt = (
        'F1 of each class (columns) for each method (rows), mean over the '
        f'seeds; the hardest class is {worst}. Test images: {told}.'
    )
    chart = Chart('f1', made, alt, 110 + 44 * len(titles))
    how = (
        'Bright is good; a column that is dark everywhere is a class that '
        'no method finds, a dark cell in a bright column one that a method '
        'has lost.'
    )
    return Section('f1', 'F1 by class', how, material.basis, [chart])


def confusions(material: ReportData) -> Section:
    """Confusion matrices side by side, and what distillation changes."""
    if not material.roles:
        return Section(
            'confusion',
            'Confusion',
            left_out='name networks with --teacher, --alone and --distilled',
        )
    found = {
        role: confusion(method, material.labels)
        for role, method in material.roles.items()
    }
    charts = [
        _matrix(material, role, 100 * matrix, (0, 100), 'Cividis', '.0f')
        for role, matrix in found.items()
    ]
    if 'distilled' in found and 'student alone' in found:
        change = 100 * (found['distilled'] - found['student alone'])
        reach = max(float(np.nanmax(np.abs(change))), 1.0)
        charts.append(
            _matrix(
                material,
                'distilled - student alone',
                change,
                (-reach, reach),
                DIVERGING,
                '+.0f',
            )
        )
    how = (
        'Rows are the true classes, numbers the per cent of their images '
        'that were given the class of the column, mean over the seeds; in '
        'the difference, on the diagonal more is better.'
    )
    return Section(
        'confusion', 'Confusion', how, material.basis, charts, tile=420
    )


def _matrix(
    material: ReportData, role: str, values, limits, scale, form: str
) -> Chart:
    names = material.classes
    made = heat_map(values, names, names, limits, scale, form)
    method = material.roles.get(role)
    title = role
    if method:
        own = method.title.lower().startswith(role)
        title = method.title if own else f'{role}: {method.title}'
    made.update_xaxes(title=dict(text='predicted'))
    made.update_yaxes(title=dict(text='true'))
    made.update_layout(margin=dict(l=48, r=8, t=8, b=56))
    kept = np.nanmean(np.diag(values))
    alt = f'{title}. Mean of the diagonal: {kept:{form}} per cent.'
    if method is None:
        alt = f'{title}, in per cent of the row; mean of the diagonal '
        alt += f'{kept:+.1f}.'
    slug = role.replace(' - ', '-minus-').replace(' ', '-')
    return Chart(f'confusion-{slug}', made, alt, 380)


SPECIFICITIES = (0.90, 0.95)
_GRID = np.concatenate([np.linspace(0, 0.1, 41), np.linspace(0.12, 1, 45)])
_RESAMPLES = 500


def sensitivity_at(
    truth: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray,
    specificity: float,
) -> float:
    """The highest sensitivity of a threshold that is specific enough.

    Args:
        truth: (N,) bool or 0 / 1, the class against the rest.
        scores: (N,) of the class.
        weights: (N,) how often each image counts, >= 0.
        specificity: least share of the others that is left alone, in [0, 1].

    Returns:
        In [0, 1]; NaN without positives or without others.
    """
    truth = np.asarray(truth, bool)
    order = np.argsort(-scores, kind='stable')
    ranked = scores[order]
    hits = np.cumsum(np.where(truth, weights, 0.0)[order])
    alarms = np.cumsum(np.where(truth, 0.0, weights)[order])
    if hits[-1] == 0 or alarms[-1] == 0:
        return float('nan')
    last = np.append(ranked[1:] != ranked[:-1], True)  # of equal scores
    allowed = alarms <= (1 - specificity) * alarms[-1] + 1e-9
    found = hits[last & allowed]
    return float(found[-1] / hits[-1]) if len(found) else 0.0


def mean_roc(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Sensitivity on a grid of false alarms, mean over the seeds.

    Args:
        truth: (N,) bool.
        scores: (S, N) of the class.

    Returns:
        (G,) in [0, 1].
    """
    from sklearn.metrics import roc_curve

    found = []
    for row in scores:
        fpr, tpr, _ = roc_curve(truth, row, drop_intermediate=False)
        # a vertical piece is a jump: what counts is its upper end
        last = np.append(fpr[1:] != fpr[:-1], True)
        found.append(np.interp(_GRID, fpr[last], tpr[last]))
    return np.mean(found, 0)


def operating_points(material: ReportData) -> Section:
    """ROC of every class, and the class that matters most in a table."""
    order = [
        index
        for index in _by_importance(material)
        if 0 < (material.labels == index).sum() < len(material.labels)
    ]
    if not order:
        return Section('roc', 'ROC', left_out='the test split has one class')
    blocks: list = [_chart(material, order)]
    basis = material.basis
    if material.positive in order:
        blocks.append(_table(material, material.positive))
        count = int((material.labels == material.positive).sum())
        name = material.classes[material.positive]
        basis += f' {count} test images are {name}.'
    how = (
        'The further a curve bends to the upper left, the better a class is '
        'told from all others. The table gives the sensitivity that the '
        'curve reaches where 90 or 95 per cent of the other images raise no '
        'alarm; its thresholds are read off the test curve, so they compare '
        'networks and are no working point for use.'
    )
    return Section('roc', 'ROC by class', how, basis, blocks)


def _by_importance(material: ReportData) -> list[int]:
    every = list(range(len(material.classes)))
    first = material.positive
    return sorted(every, key=lambda index: index != first)


def _chart(material: ReportData, order: list[int]) -> Chart:
    from plotly import graph_objects as go

    traces, choices = [], {}
    for index in order:
        start = len(traces)
        truth = material.labels == index
        for method in material.methods:
            if shown(material, method) != True:  # noqa: E712
                continue
            curve = mean_roc(truth, method.scores[:, :, index])
            traces.append(
                go.Scatter(
                    x=np.round(_GRID, 4),
                    y=np.round(curve, 4),
                    name=wrapped(method.title, 26),
                    mode='lines',
                    line=line(material, method),
                    hovertemplate='false alarms %{x:.1%}, found %{y:.1%}',
                )
            )
        choices[material.classes[index]] = list(range(start, len(traces)))
    made = figure(
        traces, '1 - specificity (false alarms)', 'sensitivity (found)'
    )
    made.update_xaxes(range=[0, 1], tickformat='.0%')
    made.update_yaxes(range=[0, 1.01], tickformat='.0%')
    alt = 'ROC curve of one class against all others, mean over the seeds.'
    return Chart('roc', made, alt, 460, choices)


def _table(material: ReportData, index: int) -> Table:
    name = material.classes[index]
    header = ['method', f'AUROC {name}']
    for specificity in SPECIFICITIES:
        header += [f'sensitivity at {specificity:.0%} specificity']
        header += ['95 % interval']
    rows = [_row(material, method, index) for method in material.methods]
    caption = (
        f'{name} against the rest, mean +- sd over the seeds; intervals from '
        f'a bootstrap over {material.unit}.'
    )
    return Table(caption, header, rows)


def _row(material: ReportData, method: Method, index: int) -> list:
    from sklearn.metrics import roc_auc_score

    truth = (material.labels == index).astype(int)
    scores = method.scores[:, :, index]
    area = spread([float(roc_auc_score(truth, row)) for row in scores])
    cells: list = [method.title, (format_mean_sd(*area), area[0])]
    ones = np.ones(len(truth))
    for specificity in SPECIFICITIES:
        score = partial(sensitivity_at, specificity=specificity)
        told = spread([score(truth, row, ones) for row in scores])
        ends = bootstrap_interval(
            truth, scores, material.groups, score, _RESAMPLES
        )
        cells.append((format_mean_sd(*told), told[0]))
        cells.append((format_interval(ends), ends[0]))
    return cells
