# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What each method gains over a baseline, and whether it may be chance."""

from ..study.words import p_told, title_of
from .charts import figure, line, wrapped
from .page import Chart
from .runs import Material, Method

SURE = 0.05  # p after Holm's correction, below which a gain is told


def difference_charts(material: Material) -> list[Chart]:
    """One chart a baseline that something is tested against."""
    by_name = {method.name: method for method in material.methods}
    charts = []
    for name in material.baselines:
        others = [m for m in material.methods if name in m.outcome.against]
        if others:
            charts.append(_chart(material, by_name[name], others))
    return charts


def _chart(material: Material, base: Method, others: list[Method]) -> Chart:
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


def _traces(material: Material, method: Method, base: str) -> list:
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
        text=[p_told(outcome.adjusted[base])],
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
