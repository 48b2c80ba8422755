# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Calibration, risk at coverage, and agreement with the teacher."""

from typing import NamedTuple

import numpy as np

from hkd_mm.evaluation.classification_scores import expected_calibration_error
from hkd_mm.evaluation.confidence import fit_temperature, log_loss, tempered
from hkd_mm.experiments.outcome import spread
from hkd_mm.experiments.tables import format_mean_sd
from hkd_mm.report.charts import figure, heat_map, line, shown, wrapped
from hkd_mm.report.data import Method, ReportData
from hkd_mm.report.page import Chart, Section, Table

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


def calibration(material: ReportData) -> Section:
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
        'per cent are right; below it a network is too sure. One temperature '
        'a network is fitted on the validation split and applied to the test '
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


def _row(material: ReportData, method: Method, scaled) -> list:
    cells: list = [method.title, *_errors(method.scores, material.labels)]
    if scaled is None:
        return [*cells, 'no validation scores', '', '']
    found, scores = scaled
    told = spread(found)
    cells.append((format_mean_sd(*told), told[0]))
    return [*cells, *_errors(scores, material.labels)]


def _errors(scores: np.ndarray, labels: np.ndarray) -> list:
    cells = []
    for error in (expected_calibration_error, log_loss):
        told = spread([error(one, labels) for one in scores])
        cells.append((format_mean_sd(*told), told[0]))
    return cells


def _chart(material: ReportData, when: str, scores: dict) -> Chart:
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


def _trace(material: ReportData, method: Method, every: np.ndarray):
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


_POINTS = 200  # drawn of a curve


def risk_coverage(
    scores: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Error rate of the k images of the highest confidence, k = 1 to N.

    Images of equal confidence count as their mean, so that their order does
    not matter.

    Args:
        scores: (N, C) probabilities.
        labels: (N,) int.

    Returns:
        Coverage k / N and risk, each (N,).
    """
    confidence = scores.max(1)
    wrong = (scores.argmax(1) != labels).astype(float)
    _, group = np.unique(-confidence, return_inverse=True)
    means = np.bincount(group, wrong) / np.bincount(group)
    errors = means[np.sort(group)]
    taken = np.arange(1, len(labels) + 1)
    return taken / len(labels), np.cumsum(errors) / taken


def aurc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the risk-coverage curve: the mean risk over all k.

    Geifman et al., Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers, ICLR 2019. Arguments as of :func:`risk_coverage`.
    """
    return float(risk_coverage(scores, labels)[1].mean())


def best_aurc(error: float, count: int) -> float:
    """AURC of a confidence that puts every error last.

    Args:
        error: share of wrong predictions.
        count: N images.
    """
    wrong = round(error * count)
    taken = np.arange(1, count + 1)
    return float((np.maximum(taken - (count - wrong), 0) / taken).mean())


def selective(material: ReportData) -> Section:
    """Curves, and a table of the areas."""
    traces, rows = [], []
    for method in material.methods:
        curves = [risk_coverage(s, material.labels) for s in method.scores]
        traces.append(_risk_trace(material, method, curves))
        rows.append(_risk_row(method, [risk for _, risk in curves]))
    made = figure(traces, 'share of images answered', 'error rate of those')
    made.update_xaxes(tickformat='.0%')
    made.update_yaxes(tickformat='.0%', rangemode='tozero')
    chart = Chart(
        'risk-coverage',
        made,
        'Error rate of the images that a network is surest of, against their '
        'share; mean over the seeds.',
    )
    header = ['method', 'AURC', 'excess AURC', 'error on the surer half']
    table = Table('Areas, mean +- sd; less is better.', header, rows)
    how = (
        'Lower is better: the curve says how much a network errs if it '
        'answers only the images it is surest of and leaves the others to a '
        'doctor. AURC is the mean height; the excess over a perfect order '
        'tells the confidence from the accuracy.'
    )
    return Section(
        'risk', 'Risk and coverage', how, material.basis, [chart, table]
    )


def _risk_trace(material: ReportData, method: Method, curves: list):
    from plotly import graph_objects as go

    coverage = curves[0][0]
    risk = np.mean([curve[1] for curve in curves], 0)
    last = len(coverage) - 1
    kept = np.unique(np.linspace(0.02 * last, last, _POINTS).astype(int))
    return go.Scatter(
        x=np.round(coverage[kept], 4),
        y=np.round(risk[kept], 4),
        name=wrapped(method.title, 26),
        mode='lines',
        line=line(material, method),
        visible=shown(material, method),
        hovertemplate='surest %{x:.0%}: error %{y:.1%}',
    )


def _risk_row(method: Method, risks: list[np.ndarray]) -> list:
    count = len(risks[0])
    told = [
        spread([float(risk.mean()) for risk in risks]),
        spread([risk.mean() - best_aurc(risk[-1], count) for risk in risks]),
        spread([risk[(count - 1) // 2] for risk in risks]),
    ]
    return [method.title, *((format_mean_sd(*one), one[0]) for one in told)]


def same_by_class(
    labels: np.ndarray, one: np.ndarray, other: np.ndarray, count: int
) -> np.ndarray:
    """Share of equal predictions among the images of each class.

    Args:
        labels: (N,) int.
        one: (N,) int, predicted classes.
        other: (N,) int, likewise.
        count: of classes, C.

    Returns:
        (C,) in [0, 1], NaN of a class without an image.
    """
    total = np.bincount(labels, minlength=count)
    same = np.bincount(labels, one == other, count)
    return np.where(total > 0, same / np.maximum(total, 1), np.nan)


def agreement(material: ReportData) -> Section:
    """Shares by class as a heat map, kappa in a table."""
    teacher = material.teacher
    students = [m for m in material.methods if m is not teacher]
    if teacher is None or not students:
        return Section(
            'agreement', 'Agreement with the teacher',
            left_out='name the teacher with --teacher',
        )  # fmt: skip
    shares = [_shares(material, student, teacher) for student in students]
    titles = [student.title for student in students]
    made = heat_map(np.array(shares), titles, material.classes, (0, 1))
    made.update_xaxes(side='top')
    made.update_layout(margin=dict(t=48, b=16))
    chart = Chart(
        'agreement',
        made,
        f'Share of test images of each true class for which a student and '
        f'{teacher.title} predict the same class; mean over the seeds.',
        100 + 44 * len(titles),
    )
    header = ['method', 'same prediction', "Cohen's kappa"]
    header += ['same where the teacher is right', '... and where it is wrong']
    rows = [_agreement_row(material, student, teacher) for student in students]
    table = Table('All classes, mean +- sd over the seeds.', header, rows)
    how = (
        'A student that has learnt from its teacher agrees with it more than '
        'the student alone does, above all where the teacher is right; '
        'agreement with its errors is what distillation hands down, too. '
        'Each seed is held against the teacher of the same seed.'
    )
    return Section(
        'agreement',
        'Agreement with the teacher',
        how,
        material.basis,
        [chart, table],
    )


def _shares(
    material: ReportData, student: Method, teacher: Method
) -> np.ndarray:
    count = len(material.classes)
    return np.mean(
        [
            same_by_class(material.labels, one, other, count)
            for one, other in _pairs(student, teacher)
        ],
        0,
    )


def _pairs(student: Method, teacher: Method):
    """Predictions of each seed and of its teacher, the last one if fewer."""
    last = len(teacher.chosen) - 1
    return [
        (row, teacher.chosen[min(seed, last)])
        for seed, row in enumerate(student.chosen)
    ]


def _agreement_row(
    material: ReportData, student: Method, teacher: Method
) -> list:
    from sklearn.metrics import cohen_kappa_score

    same, kappa, right, wrong = [], [], [], []
    for one, other in _pairs(student, teacher):
        equal = one == other
        knows = other == material.labels
        same.append(float(equal.mean()))
        kappa.append(float(cohen_kappa_score(one, other)))
        right.append(float(equal[knows].mean()) if knows.any() else np.nan)
        wrong.append(float(equal[~knows].mean()) if (~knows).any() else np.nan)
    told = [spread(values) for values in (same, kappa, right, wrong)]
    return [student.title, *((format_mean_sd(*one), one[0]) for one in told)]
