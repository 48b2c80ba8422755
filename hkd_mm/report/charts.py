# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Colours and frames that all figures share."""

import textwrap

import numpy as np

from hkd_mm.report.data import Method, ReportData

# Okabe and Ito's colours without black and yellow, which vanish on one of
# the two backgrounds; dashes and symbols tell methods apart without colour.
ROLE_COLOURS = {
    'teacher': '#e69f00',
    'student alone': '#2f93d8',
    'distilled': '#d55e00',
}
_OTHERS = ('#009e73', '#cc79a7', '#8a8f98', '#56b4e9', '#a6761d')
_DASHES = ('dot', 'dashdot', 'longdash', 'dash', 'longdashdot')
_ROLE_DASHES = {
    'teacher': 'dash',
    'student alone': 'dot',
    'distilled': 'solid',
}
DIVERGING = [[0, '#2166ac'], [0.5, '#f7f7f7'], [1, '#b35806']]
SEQUENTIAL = 'Cividis'


def figure(traces: list, x: str = '', y: str = '', **layout):
    """A ``plotly.graph_objects.Figure`` in this report's frame.

    Args:
        traces: of plotly.
        x: title of the axis.
        y: title of the axis.
        layout: further of plotly's words.
    """
    from plotly import graph_objects as go

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


def line(material: ReportData, method: Method) -> dict:
    """Colour and dash of a method's line."""
    for role, one in material.roles.items():
        if one is method:
            return dict(
                color=ROLE_COLOURS[role], dash=_ROLE_DASHES[role], width=2.5
            )
    place = material.methods.index(method)
    return dict(
        color=_OTHERS[place % len(_OTHERS)],
        dash=_DASHES[place // len(_OTHERS) % len(_DASHES)],
        width=1.5,
    )


def shown(material: ReportData, method: Method) -> bool | str:
    """Plotly's ``visible``: others wait in the legend for a click."""
    roles = material.roles
    if not roles or any(one is method for one in roles.values()):
        return True
    return 'legendonly' if len(material.methods) > 5 else True


def wrapped(text: str, width: int = 20) -> str:
    """A long name in several lines of an axis."""
    return '<br>'.join(textwrap.wrap(text, width)) or text


def heat_map(
    values: np.ndarray,
    rows: list[str],
    columns: list[str],
    limits: tuple[float, float],
    scale=SEQUENTIAL,
    form: str = '.2f',
    **layout,
):
    """A matrix with its numbers written in it, the first row on top.

    Args:
        values: (R, C), NaN where there is nothing.
        rows: R names.
        columns: C names.
        limits: of the colours, as ``scale``.
        scale: of plotly.
        form: of the numbers.
        layout: as of :func:`figure`.
    """
    from plotly import graph_objects as go

    trace = go.Heatmap(
        z=np.round(values, 5),
        x=columns,
        y=[wrapped(row) for row in rows],
        text=_numbers(values, form),
        texttemplate='%{text}',
        hovertemplate='%{y}, %{x}: %{text}<extra></extra>',
        colorscale=scale,
        zmin=limits[0],
        zmax=limits[1],
        showscale=False,
    )
    trace.update(xgap=1, ygap=1)
    made = figure([trace], showlegend=False, **layout)
    made.update_yaxes(autorange='reversed', type='category', showgrid=False)
    made.update_xaxes(type='category', showgrid=False)
    return made


def _numbers(values: np.ndarray, form: str) -> list[list[str]]:
    return [
        ['' if np.isnan(value) else f'{value:{form}}' for value in row]
        for row in values
    ]
