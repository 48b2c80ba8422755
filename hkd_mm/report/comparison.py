# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tables of all methods: scores, differences, cost."""

import math
from collections.abc import Iterator

import numpy as np
from plotly import graph_objects as go

from hkd_mm.evaluation.agreement import pareto_front
from hkd_mm.evaluation.significance import ALPHA
from hkd_mm.experiments import table_text
from hkd_mm.metric_names import CLASS_SUMMARY, MASK_SUMMARY, title_of
from hkd_mm.report import page
from hkd_mm.report.data import ReportData, ReportMethod

_MASK_METRICS = (*MASK_SUMMARY[:3], 'sensitivity', 'precision', 'hd95')
_COSTS = dict(
    parameters='parameters / M',
    gflops='GFLOPs an image',
    minutes='training minutes',
    latency='latency / ms',
)


def comparison_section(data: ReportData) -> page.Section:
    """All methods with their scores and differences to the baselines."""
    titles = {method.name: method.title for method in data.methods}
    baselines = [name for name in data.baselines if name in titles]
    metrics = _MASK_METRICS if data.of_masks else CLASS_SUMMARY
    header = [
        'method',
        *map(title_of, metrics),
        f'95 % interval ({title_of(data.compared_by)})',
        *(f'against {titles[name]}' for name in baselines),
        'minutes',
    ]
    rows = [_row(method, metrics, baselines) for method in data.methods]
    basis = data.basis
    if data.incomplete:
        basis += f' Not finished, left out: {", ".join(data.incomplete)}.'
    basis += table_text.one_class_note([method.outcome for method in data.methods])
    marked = {i for i, method in enumerate(data.methods) if method is data.distilled}
    table = page.Table('Click on a heading to sort.', header, rows, marked)
    blocks = [table, *_difference_charts(data)]
    how = _how_to_compare(data, bool(baselines))
    return page.Section('comparison', 'Comparison', how, basis, blocks)


def _how_to_compare(data: ReportData, tested: bool) -> str:
    how = 'Mean +- sample sd over the seeds'
    several = data.methods[0].outcome.has_multiple_groups
    if several:
        how += f'; the interval is a bootstrap over {data.unit}.'
    else:
        how += (
            f'. All images are of one {data.group_name[:-1]}, so there is '
            'neither an interval nor a test of differences.'
        )
    if data.unknown:
        how += f' {table_text.unknown_groups_note(data.group_name)}'
    if tested and several:
        how += (
            f' Differences are paired over seeds and {data.unit.removeprefix("whole ")}'
            ", with 95 % intervals and p after Holm's correction: a difference counts "
            f'where p is below {ALPHA}.'
        )
        if min(len(method.folders) for method in data.methods) == 1:
            how += (
                ' With one seed they are of these networks alone: nothing is '
                'known of what another seed would give.'
            )
    return how


def _row(
    method: ReportMethod, metrics: tuple[str, ...], baselines: list[str]
) -> list[page.Cell]:
    outcome = method.outcome
    cells: list[page.Cell] = [table_text.row_title(outcome)]
    for key in metrics:
        known = all(key in test for test in outcome.tests)
        mean, sd = outcome.test(key) if known else (math.nan, math.nan)
        cells.append((table_text.format_mean_sd(mean, sd), mean))
    cells.append((table_text.format_interval(outcome.interval), outcome.interval[0]))
    for name in baselines:
        found = outcome.against.get(name)
        cells.append(
            (table_text.format_difference(outcome, name), found.mean) if found else ''
        )
    return [*cells, (f'{outcome.minutes:.1f}', outcome.minutes)]


def _difference_charts(data: ReportData) -> Iterator[page.Chart]:
    """One chart a baseline that something is tested against."""
    metric = title_of(data.compared_by)
    for base in data.methods:
        others = [m for m in data.methods if base.name in m.outcome.against]
        if base.name not in data.baselines or not others:
            continue
        names = page.labels((method.title for method in others), 28)
        traces = [
            trace
            for method, name in zip(others, names)
            for trace in _difference_traces(data, method, name, base.name)
        ]
        made = page.figure(
            traces, f'gain in {metric}', showlegend=False, margin=dict(t=48)
        )
        made.add_vline(x=0, line=dict(color=page.GREY, width=1, dash='dash'))
        made.update_yaxes(autorange='reversed', type='category', showgrid=False)
        made.update_xaxes(tickformat='+.2f', zeroline=False)
        alt = (
            f'Gain in {metric} over {base.title}: mean (dot), 95 % interval '
            '(line), each seed (tick); a dot is filled where p after Holm is '
            f'below {ALPHA}. {verdict(base, others)}'
        )
        name = f'against-{base.name.replace("/", "-")}'
        yield page.Chart(name, made, alt, 120 + 46 * len(others))


def verdict(base: ReportMethod, others: list[ReportMethod]) -> str:
    """The charts in words: what is ahead, what is behind, what is open."""
    found: dict[str, list[str]] = {'Ahead': [], 'Behind': [], 'open': []}
    for method in others:
        ahead = method.outcome.against[base.name].mean > 0
        significant = method.outcome.adjusted[base.name] < ALPHA
        kind = ('Ahead' if ahead else 'Behind') if significant else 'open'
        found[kind].append(method.title)
    starts = dict(open=f'Not distinguishable from {base.title}')
    return ' '.join(
        f'{starts.get(kind, f"{kind} by more than chance")}: {", ".join(titles)}.'
        for kind, titles in found.items()
        if titles
    )


def _difference_traces(
    data: ReportData, method: ReportMethod, name: str, base: str
) -> list:
    outcome = method.outcome
    found, p = outcome.against[base], outcome.adjusted[base]
    colour, extra = page.line(data, method)['color'], f'<extra>{name}</extra>'
    interval = dict(
        type='data',
        symmetric=False,
        array=[found.high - found.mean],
        arrayminus=[found.mean - found.low],
        color=colour,
        thickness=2,
        width=6,
    )
    symbol = 'circle' if p < ALPHA else 'circle-open'
    mean = go.Scatter(
        x=[found.mean],
        y=[name],
        mode='markers+text',
        cliponaxis=False,
        text=[table_text.format_p_value(p)],
        textposition='top center',
        error_x=interval,
        marker=dict(color=colour, size=11, symbol=symbol, line=dict(width=2)),
        hovertemplate=f'%{{x:+.3f}} [{found.low:+.3f}, {found.high:+.3f}]' + extra,
    )
    seeds = go.Scatter(
        x=list(found.by_seed),
        y=[name] * found.seeds,
        mode='markers',
        marker=dict(symbol='line-ns-open', size=14, color=colour, line=dict(width=1.5)),
        text=[str(seed) for seed in outcome.seeds],
        hovertemplate='seed %{text}: %{x:+.3f}' + extra,
    )
    return [mean] if found.seeds == 1 else [mean, seeds]


def cost_section(data: ReportData) -> page.Section:
    """The compared metric against each cost."""
    charts = []
    columns = zip(*map(_costs, data.methods))
    for (key, name), costs in zip(_COSTS.items(), columns):
        points = {m: c for m, c in zip(data.methods, costs) if not math.isnan(c)}
        if len(points) > 1:
            charts.append(_cost_chart(data, key, name, points))
    if not charts:
        return page.Section('cost', 'Cost', left_out='no run tells its cost')
    how = (
        'Up is better, left is cheaper; a filled point with a ring is on the Pareto '
        'front: no other method is both at least as good and at least as cheap. '
        'Training minutes leave the teacher of a distillation out.'
    )
    return page.Section(
        'cost', 'Accuracy against cost', how, data.basis, charts, tile=262
    )


def _costs(method: ReportMethod) -> list[float]:
    """Values of ``_COSTS``, NaN where unknown."""
    network, outcome = method.network, method.outcome
    return [
        network.get('parameters', math.nan) / 1e6,
        2 * network.get('gmacs', math.nan),
        outcome.minutes,
        outcome.milliseconds,
    ]


def _cost_chart(
    data: ReportData, key: str, name: str, points: dict[ReportMethod, float]
) -> page.Chart:
    metric = title_of(data.compared_by)
    methods, costs = list(points), list(points.values())
    found = [method.outcome.test(data.compared_by) for method in methods]
    gains = [mean for mean, _ in found]
    front = pareto_front(costs, gains)
    middle = (min(costs) + max(costs)) / 2
    traces = []
    for method, cost, (mean, sd), best in zip(methods, costs, found, front):
        shown = data.role_of(method) or (page.label(method.title) if best else '')
        marker = dict(
            size=14 if best else 9,
            color=page.line(data, method)['color'],
            symbol='circle-dot' if best else 'circle-open',
            line=dict(width=2),
        )
        traces.append(
            go.Scatter(
                x=[cost],
                y=[mean],
                name=page.label(method.title, 30),
                mode='markers+text',
                text=f' {shown} ',
                textposition=f'top {"left" if cost > middle else "right"}',
                error_y=dict(array=[np.nan_to_num(sd)], width=4, thickness=1),
                marker=marker,
                hovertemplate=f'{name} %{{x:.4g}}<br>%{{y:.3f}}',
            )
        )
    order = [i for i in np.argsort(costs, kind='stable') if front[i]]
    traces.append(
        go.Scatter(
            x=[costs[i] for i in order],
            y=[gains[i] for i in order],
            mode='lines',
            name='Pareto front',
            line=dict(color=page.GREY, dash='dot', width=1.5, shape='hv'),
            hoverinfo='skip',
        )
    )
    made = page.figure(traces, name, metric, showlegend=False)
    if max(costs) > 20 * min(costs) > 0:
        made.update_xaxes(type='log')
    alt = (
        f'{metric[0].upper()}{metric[1:]} against {name}, mean and sd over the seeds; '
        f'on the Pareto front: {", ".join(methods[i].title for i in order)}.'
    )
    return page.Chart(f'cost-{key}', made, alt, 340)
