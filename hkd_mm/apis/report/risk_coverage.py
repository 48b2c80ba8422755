# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How much a net errs on the images it is surest of."""

import numpy as np

from ..study.outcome import spread
from ..study.words import plus_minus
from .charts import figure, line, shown, wrapped
from .page import Chart, Section, Table
from .runs import Material, Method

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


def selective(material: Material) -> Section:
    """Curves, and a table of the areas."""
    traces, rows = [], []
    for method in material.methods:
        curves = [risk_coverage(s, material.labels) for s in method.scores]
        traces.append(_trace(material, method, curves))
        rows.append(_row(method, [risk for _, risk in curves]))
    made = figure(traces, 'share of images answered', 'error rate of those')
    made.update_xaxes(tickformat='.0%')
    made.update_yaxes(tickformat='.0%', rangemode='tozero')
    chart = Chart(
        'risk-coverage',
        made,
        'Error rate of the images that a net is surest of, against their '
        'share; mean over the seeds.',
    )
    header = ['method', 'AURC', 'excess AURC', 'error on the surer half']
    table = Table('Areas, mean +- sd; less is better.', header, rows)
    how = (
        'Lower is better: the curve says how much a net errs if it answers '
        'only the images it is surest of and leaves the others to a doctor. '
        'AURC is the mean height; the excess over a perfect order tells the '
        'confidence from the accuracy.'
    )
    return Section(
        'risk', 'Risk and coverage', how, material.basis, [chart, table]
    )


def _trace(material: Material, method: Method, curves: list):
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


def _row(method: Method, risks: list[np.ndarray]) -> list:
    count = len(risks[0])
    told = [
        spread([float(risk.mean()) for risk in risks]),
        spread([risk.mean() - best_aurc(risk[-1], count) for risk in risks]),
        spread([risk[(count - 1) // 2] for risk in risks]),
    ]
    return [method.title, *((plus_minus(*one), one[0]) for one in told)]
