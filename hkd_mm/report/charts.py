# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Names, colours and frames that all figures share."""

import html
import textwrap
from collections.abc import Iterable

import numpy as np
from plotly import graph_objects as go

from hkd_mm.io.markup import shorten
from hkd_mm.report.data import ReportData, ReportMethod

# Okabe and Ito's colours without black and yellow, which vanish on one of
# the two backgrounds; dashes distinguish methods without colour.
ROLE_COLOURS = {
    'teacher': '#e69f00',
    'student alone': '#2f93d8',
    'distilled': '#d55e00',
}
GREY = '#8a8f98'
_OTHERS = ('#009e73', '#cc79a7', GREY, '#56b4e9', '#a6761d')
_DASHES = ('dot', 'dashdot', 'longdash', 'dash', 'longdashdot')
_ROLE_DASHES = {
    'teacher': 'dash',
    'student alone': 'dot',
    'distilled': 'solid',
}
DIVERGING = [[0, '#2166ac'], [0.5, '#f7f7f7'], [1, '#b35806']]
MANY = 25  # columns whose numbers do not fit into a heat map
LEGEND_BELOW = dict(orientation='h', y=-0.2, yanchor='top')


def figure(traces: list, x: str = '', y: str = '', **layout):
    """A plotly figure in this report's frame, with titles of the axes."""
    made = go.Figure(traces)
    made.update_layout(
        template='none',
        margin=dict(l=56, r=16, t=36, b=48),
        font=dict(family='system-ui, sans-serif', size=13),
        hoverlabel=dict(namelength=-1),
    )
    made.update_xaxes(title=dict(text=x), automargin=True)
    made.update_yaxes(title=dict(text=y), automargin=True)
    made.update_layout(**layout)
    return made


def line(data: ReportData, method: ReportMethod) -> dict:
    """Colour and dash of a method's line."""
    if role := data.role_of(method):
        return dict(color=ROLE_COLOURS[role], dash=_ROLE_DASHES[role], width=2.5)
    index = data.methods.index(method)
    return dict(
        color=_OTHERS[index % len(_OTHERS)],
        dash=_DASHES[index // len(_OTHERS) % len(_DASHES)],
        width=1.5,
    )


def is_shown(data: ReportData, method: ReportMethod) -> bool:
    """Whether a curve is drawn at once; of many methods only the roles."""
    few = not data.roles or len(data.methods) <= 5
    return few or data.role_of(method) is not None


def curve(
    data: ReportData,
    method: ReportMethod,
    x: np.ndarray,
    y: np.ndarray,
    hover: str,
    **options,
):
    """A method's ``Scatter``; hidden ones wait in the legend for a click."""
    return go.Scatter(
        x=np.round(x, 4),
        y=np.round(y, 4),
        name=label(method.title, 26),
        line=line(data, method),
        hovertemplate=hover,
        visible=is_shown(data, method) or 'legendonly',
        **{'mode': 'lines', **options},
    )


def labels(names: Iterable[str], width: int = 20) -> list[str]:
    """Names in a figure, all different: long ones in up to three lines, or cut.

    Plotly takes tags and ``%{...}`` in texts for its own: they are escaped.
    """
    lines = (textwrap.wrap(name, width) for name in shorten(names, 3 * width))
    return [
        '<br>'.join(html.escape(part, False).replace('%{', '&#37;{') for part in parts)
        for parts in lines
    ]


def label(name: str, width: int = 20) -> str:
    """One of :func:`labels`."""
    return labels([name], width)[0]


def heat_map(
    values: np.ndarray,
    rows: list[str],
    columns: list[str],
    limits: tuple[float, float] = (0, 1),
    scale='Cividis',
    form: str = '.2f',
):
    """A matrix with its numbers written in it if they fit, the first row on top.

    Args:
        values: (R, C), NaN where there is nothing.
        rows: R names.
        columns: C names.
        limits: of the colours.
        scale: colours of plotly.
        form: of the numbers.
    """
    trace = go.Heatmap(
        z=np.round(values, 5),
        x=labels(columns),
        y=labels(rows),
        text=[['' if v != v else f'{v:{form}}' for v in r] for r in values],
        texttemplate='%{text}' if len(columns) <= MANY else '',
        hovertemplate='%{y}, %{x}: %{text}<extra></extra>',
        colorscale=scale,
        zmin=limits[0],
        zmax=limits[1],
        showscale=False,
        xgap=1,
        ygap=1,
    )
    made = figure([trace], showlegend=False)
    made.update_yaxes(autorange='reversed', type='category', showgrid=False)
    made.update_xaxes(type='category', showgrid=False)
    return made


def class_map(methods: list[ReportMethod], values: list, columns: list[str]):
    """Heat map of (M, C) shares: a row a method, the classes on top."""
    titles = [method.title for method in methods]
    made = heat_map(np.array(values), titles, columns)
    made.update_xaxes(side='top')
    made.update_layout(margin=dict(t=48, b=16))
    return made
