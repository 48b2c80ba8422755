# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What accuracy costs."""

import json
import statistics

import numpy as np

from hkd_mm.errors import UserError

from .charts import figure, line, wrapped
from .comparison import METRICS
from .page import Chart, Section
from .runs import Material, Method

_COSTS = dict(
    parameters='parameters / M',
    gflops='GFLOPs an image',
    minutes='training minutes',
    latency='latency / ms',
)


def pareto_front(costs, gains) -> np.ndarray:
    """Which points no other point beats in cost and gain alike.

    Args:
        costs: (N,) less is better.
        gains: (N,) more is better.

    Returns:
        (N,) bool; of equal points all are in it or none.
    """
    costs, gains = np.asarray(costs, float), np.asarray(gains, float)
    no_worse = (costs[None] <= costs[:, None]) & (
        gains[None] >= gains[:, None]
    )
    better = (costs[None] < costs[:, None]) | (gains[None] > gains[:, None])
    return ~(no_worse & better).any(1)


def cost(material: Material) -> Section:
    """Balanced accuracy, or what is compared, against each cost."""
    metric = material.compared_by
    charts = []
    for key, name in _COSTS.items():
        points = [
            (method, value)
            for method in material.methods
            if (value := _cost(method, key)) is not None
        ]
        if len(points) > 1:
            charts.append(_chart(material, key, name, metric, points))
    if not charts:
        return Section('cost', 'Cost', left_out='no run tells its cost')
    how = (
        'Up is better, left is cheaper; a filled point with a ring lies on '
        'the Pareto front: no other method is both at least as good and at '
        'least as cheap. Training minutes leave the teacher of a '
        'distillation out.'
    )
    return Section(
        'cost', 'Accuracy against cost', how, material.basis, charts,
        tile=262,
    )  # fmt: skip


def _chart(
    material: Material, key: str, name: str, metric: str, points: list
) -> Chart:
    from plotly import graph_objects as go

    found = [method.outcome.test(metric) for method, _ in points]
    gains = [mean for mean, _ in found]
    costs = [value for _, value in points]
    front = pareto_front(costs, gains)
    middle = (min(costs) + max(costs)) / 2
    traces = [
        _point(material, method, name, (value, *told), best, value > middle)
        for (method, value), told, best in zip(points, found, front)
    ]
    order = [i for i in np.argsort(costs, kind='stable') if front[i]]
    traces.append(
        go.Scatter(
            x=[costs[i] for i in order],
            y=[gains[i] for i in order],
            mode='lines',
            name='Pareto front',
            line=dict(color='#8a8f98', dash='dot', width=1.5, shape='hv'),
            hoverinfo='skip',
        )
    )
    axis = dict(type='log') if max(costs) > 20 * min(costs) > 0 else {}
    best = ', '.join(points[i][0].title for i in order)
    alt = (
        f'{METRICS[metric].capitalize()} against {name}, mean and sd over '
        f'the seeds; on the Pareto front: {best}.'
    )
    made = figure(traces, name, METRICS[metric], showlegend=False)
    made.update_xaxes(**axis)
    return Chart(f'cost-{key}', made, alt, 340)


def _point(
    material: Material,
    method: Method,
    name: str,
    place: tuple[float, float, float],
    best: bool,
    right: bool,
):
    """A method: ``place`` is its cost, and mean and sd of what it gains."""
    from plotly import graph_objects as go

    value, mean, sd = place
    return go.Scatter(
        x=[value],
        y=[mean],
        name=wrapped(method.title, 30),
        mode='markers+text',
        text=_label(material, method, best),
        textposition=f'top {"left" if right else "right"}',
        error_y=dict(array=[np.nan_to_num(sd)], width=4, thickness=1),
        marker=dict(
            size=14 if best else 9,
            color=line(material, method)['color'],
            symbol='circle-dot' if best else 'circle-open',
            line=dict(width=2),
        ),
        hovertemplate=f'{name} %{{x:.4g}}<br>%{{y:.3f}}',
    )


def _label(material: Material, method: Method, best: bool) -> str:
    """Written beside a point; the others say it when pointed at."""
    for role, one in material.roles.items():
        if one is method:
            return f' {role} '
    return f' {wrapped(method.title)} ' if best else ''


def _cost(method: Method, key: str) -> float | None:
    if key == 'minutes':
        return method.outcome.minutes
    if key == 'latency':
        return _latency(method)
    if key == 'gflops':
        gmacs = method.net.get('gmacs')
        return None if gmacs is None else 2 * gmacs
    value = method.net.get('parameters')
    return value and value / 1e6


def _latency(method: Method) -> float | None:
    """Mean of ``median_ms`` where a run has been timed."""
    found = []
    for folder in method.folders:
        path = folder / 'latency.json'
        if not path.is_file():
            continue
        try:
            told = json.loads(path.read_text(encoding='utf-8'))
            found.append(float(told['median_ms']))
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f'{path} holds no "median_ms"; remove it or write it again'
            ) from None
    return statistics.mean(found) if found else None
