# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tables of all methods: scores, differences, cost."""

import json
import statistics
from collections.abc import Iterable

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.experiments.outcome import MethodResult
from hkd_mm.experiments.tables import (
    format_difference,
    format_interval,
    format_mean_sd,
    format_p_value,
    one_class_note,
    row_title,
    title_of,
    unknown_groups_note,
)
from hkd_mm.report.charts import figure, line, wrapped
from hkd_mm.report.data import Method, ReportData
from hkd_mm.report.page import Chart, Section, Table

SURE = 0.05  # p after Holm's correction, below which a gain is told


def difference_charts(material: ReportData) -> list[Chart]:
    """One chart a baseline that something is tested against."""
    by_name = {method.name: method for method in material.methods}
    charts = []
    for name in material.baselines:
        others = [m for m in material.methods if name in m.outcome.against]
        if others:
            charts.append(_chart(material, by_name[name], others))
    return charts


def _chart(material: ReportData, base: Method, others: list[Method]) -> Chart:
    traces = [
        trace
        for method in others
        for trace in _traces(material, method, base.name)
    ]
    metric = title_of(material.compared_by)
    made = figure(
        traces, f'gain in {metric}', showlegend=False, margin=dict(t=48)
    )
    made.add_vline(x=0, line=dict(color='#8a8f98', width=1, dash='dash'))
    made.update_yaxes(autorange='reversed', type='category', showgrid=False)
    made.update_xaxes(tickformat='+.2f', zeroline=False)
    return Chart(
        f'against-{base.name.replace("/", "-")}',
        made,
        f'Gain in {metric} over {base.title}: mean (dot), 95 % interval '
        '(line), each seed (tick); a dot is filled where p after Holm is '
        f'below {SURE}. {verdict(base, others)}',
        120 + 46 * len(others),
    )


def verdict(base: Method, others: list[Method]) -> str:
    """The charts in words: what is ahead, what is behind, what is open."""
    found: dict[str, list[str]] = {'ahead': [], 'behind': [], 'open': []}
    for method in others:
        gain = method.outcome.against[base.name].mean
        way = 'ahead' if gain > 0 else 'behind'
        sure = method.outcome.adjusted[base.name] < SURE
        found[way if sure else 'open'].append(method.title)
    told = [
        f'{way.capitalize()} by more than chance: {", ".join(found[way])}.'
        for way in ('ahead', 'behind')
        if found[way]
    ]
    if found['open']:
        told.append(
            f'Not told apart from {base.title}: {", ".join(found["open"])}.'
        )
    return ' '.join(told)


def _traces(material: ReportData, method: Method, base: str) -> list:
    from plotly import graph_objects as go

    outcome = method.outcome
    found = outcome.against[base]
    colour = line(material, method)['color']
    name = wrapped(method.title, 28)
    sure = outcome.adjusted[base] < SURE
    mean = go.Scatter(
        x=[found.mean],
        y=[name],
        mode='markers+text',
        cliponaxis=False,
        text=[format_p_value(outcome.adjusted[base])],
        textposition='top center',
        error_x=dict(
            type='data',
            symmetric=False,
            array=[found.high - found.mean],
            arrayminus=[found.mean - found.low],
            color=colour,
            thickness=2,
            width=6,
        ),
        marker=dict(
            color=colour,
            size=11,
            symbol='circle' if sure else 'circle-open',
            line=dict(width=2),
        ),
        hovertemplate=f'%{{x:+.3f}} [{found.low:+.3f}, {found.high:+.3f}]'
        f'<extra>{method.title}</extra>',
    )
    seeds = go.Scatter(
        x=list(found.by_seed),
        y=[name] * found.seeds,
        mode='markers',
        marker=dict(
            symbol='line-ns-open', size=14, color=colour, line=dict(width=1.5)
        ),
        text=[str(seed) for seed in outcome.seeds],
        hovertemplate='seed %{text}: %{x:+.3f}'
        f'<extra>{method.title}</extra>',
    )
    return [mean, seeds] if found.seeds > 1 else [mean]


_OF_CLASSES = dict(
    balanced_accuracy='balanced accuracy',
    top1='accuracy',
    macro_f1='macro F1',
    macro_auroc='macro AUROC',
)
_OF_MASKS = dict(
    dice='Dice',
    patient_dice='Dice of a patient',
    iou='IoU',
    sensitivity='sensitivity',
    precision='precision',
    hd95='95 % Hausdorff distance',
)
METRICS = {**_OF_CLASSES, **_OF_MASKS}


def comparison(material: ReportData) -> Section:
    """All methods with what they reach and what that differs from."""
    metric = METRICS[material.compared_by]
    shown = _OF_MASKS if material.of_masks else _OF_CLASSES
    titles = {method.name: method.title for method in material.methods}
    baselines = [name for name in material.baselines if name in titles]
    header = [
        'method',
        *shown.values(),
        f'95 % interval ({metric})',
        *(f'against {titles[name]}' for name in baselines),
        'minutes',
    ]
    rows = [
        _row(method.outcome, shown, baselines) for method in material.methods
    ]
    unit = material.unit.removeprefix('whole ')
    others = material.methods[0].outcome.has_multiple_groups
    how = 'Mean +- sample sd over the seeds' + (
        f'; the interval is a bootstrap over {material.unit}.'
        if others
        else f'. All images are of one {material.whose[:-1]}, so there is '
        'neither an interval nor a test of differences.'
    )
    if material.unknown:
        how += f' {unknown_groups_note(material.whose)}'
    if baselines and others:
        how += (
            f' Differences are paired over seeds and {unit}, with 95 % '
            "intervals and p after Holm's correction: a difference counts "
            f'where p is below {SURE}.'
        )
        if min(len(method.folders) for method in material.methods) == 1:
            how += (
                ' With one seed they are of these networks alone: nothing is '
                'known of what another seed would give.'
            )
    basis = material.basis
    if material.unfinished:
        basis += f' Not finished, left out: {", ".join(material.unfinished)}.'
    basis += one_class_note([method.outcome for method in material.methods])
    marked = {
        place
        for place, method in enumerate(material.methods)
        if method is material.distilled
    }
    table = Table('Click on a heading to sort.', header, rows, marked)
    blocks = [table, *difference_charts(material)]
    return Section('comparison', 'Comparison', how, basis, blocks)


def _row(
    outcome: MethodResult, metrics: Iterable[str], baselines: list[str]
) -> list:
    cells = [row_title(outcome)]
    for key in metrics:
        if all(key in test for test in outcome.tests):
            mean, sd = outcome.test(key)
            cells.append((format_mean_sd(mean, sd), mean))
        else:
            cells.append('')
    cells.append((format_interval(outcome.interval), outcome.interval[0]))
    for name in baselines:
        found = outcome.against.get(name)
        told = format_difference(outcome, name)
        cells.append((told, found.mean) if found else '')
    return [*cells, (f'{outcome.minutes:.1f}', outcome.minutes)]


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


def cost(material: ReportData) -> Section:
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
            charts.append(_cost_chart(material, key, name, metric, points))
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


def _cost_chart(
    material: ReportData, key: str, name: str, metric: str, points: list
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
    material: ReportData,
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


def _label(material: ReportData, method: Method, best: bool) -> str:
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
        gmacs = method.network.get('gmacs')
        return None if gmacs is None else 2 * gmacs
    value = method.network.get('parameters')
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
