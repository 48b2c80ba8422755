# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Blocks that a page is made of, figures in its frame, and the page itself."""

import html
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jinja2 import Environment
from plotly import graph_objects as go
from plotly.offline import get_plotlyjs

from hkd_mm.experiments.outcome import spread
from hkd_mm.experiments.table_text import format_mean_sd
from hkd_mm.io.markup import shorten
from hkd_mm.report.data import ROLES, ReportData, ReportMethod

Cell = str | tuple[str, float]  # a text, or with the number to sort by
# Okabe and Ito's colours without black and yellow, which vanish on one of
# the two backgrounds; dashes distinguish methods without colour.
ROLE_COLOURS = dict(zip(ROLES, ('#e69f00', '#2f93d8', '#d55e00')))
_ROLE_DASHES = dict(zip(ROLES, ('dash', 'dot', 'solid')))
GREY = '#8a8f98'
_OTHERS = ('#009e73', '#cc79a7', GREY, '#56b4e9', '#a6761d')
_DASHES = ('dot', 'dashdot', 'longdash', 'dash', 'longdashdot')
DIVERGING = [[0, '#2166ac'], [0.5, '#f7f7f7'], [1, '#b35806']]
MANY = 25  # columns whose numbers do not fit into a heat map
LEGEND_BELOW = dict(orientation='h', y=-0.2, yanchor='top')


def mean_sd_cell(values: Iterable) -> Cell:
    """``mean +- sd`` over the seeds."""
    mean, sd = spread([float(value) for value in values])
    return format_mean_sd(mean, sd), mean


def count_cell(count: Any) -> Cell:
    """A whole number."""
    return str(int(count)), int(count)


@dataclass
class Chart:
    """An interactive figure."""

    kind: ClassVar[str] = 'chart'
    name: str  # for its id and its files
    figure: go.Figure
    alt: str  # description for those who do not see it
    height: int = 420  # pixels
    # name -> traces to show, where one looks at a part at a time
    choices: dict[str, list[int]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Least width in pixels of a heat map, which scrolls on narrower screens."""
        count = max(
            (len(t.x) for t in self.figure.data if t.type == 'heatmap'), default=0
        )
        return count and 170 + count * (34 if count <= MANY else 14)


@dataclass
class Table:
    """A table that a click on a heading sorts; some rows stand out."""

    kind: ClassVar[str] = 'table'
    caption: str
    header: list[str]
    rows: list[list[Cell]]
    marked: set[int] = field(default_factory=set)

    @property
    def cells(self) -> list[list[tuple[str, float | None]]]:
        """All cells as pairs; the number is None of a text, or of NaN."""
        rows = [
            [c if isinstance(c, tuple) else (c, None) for c in r] for r in self.rows
        ]
        return [[(t, None if v != v else v) for t, v in row] for row in rows]


class Picture(NamedTuple):
    """One tile: images (data URI, alternative text) with lines under them."""

    images: list[tuple[str, str]]
    lines: list[str]


@dataclass
class Pictures:
    """Tiles, at least one."""

    kind: ClassVar[str] = 'pictures'
    tiles: list[Picture]


@dataclass
class KeyFacts:
    """Pairs of a name and a text."""

    kind: ClassVar[str] = 'facts'
    items: list[tuple[str, str]]


@dataclass
class Section:
    """A part of the page."""

    name: str  # for its anchor
    title: str
    how: str = ''  # to read it
    basis: str = ''  # images, split and selection rule
    blocks: list = field(default_factory=list)
    left_out: str = ''  # the reason, where there is nothing
    # least width in pixels of charts that stand side by side, else below each other
    tile: int | None = None

    @property
    def charts(self) -> list[Chart]:
        return [block for block in self.blocks if isinstance(block, Chart)]


def render(
    title: str,
    sections: list[Section],
    subtitle: str,
    drawn: dict[str, list[tuple[str, str]]] | None = None,
) -> str:
    """The whole page, readable without network.

    ``drawn`` are pictures of each chart, with their names, in place of a script.
    """

    def text(name: str) -> str:
        return Path(__file__).with_name(name).read_text('utf-8')

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    # for a script element: no tag can end it
    environment.filters['figure'] = lambda chart: chart.figure.to_json().replace(
        '<', '\\u003c'
    )
    scripts = drawn is None and any(s.charts for s in sections)
    return environment.from_string(text('page.html.j2')).render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        style=text('page.css'),
        script=text('page.js'),
        drawn=drawn,
        plotly=get_plotlyjs() if scripts else '',
    )


def figure(traces: list, x: str = '', y: str = '', **layout) -> go.Figure:
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
    return made.update_layout(**layout)


def labels(names: Iterable[str], width: int = 20, most: int = 3) -> list[str]:
    """Names in a figure, all different, of ``most`` lines or so; escaped for plotly."""
    lines = (textwrap.wrap(name, width) for name in shorten(names, most * width))
    return [
        '<br>'.join(html.escape(part, False).replace('%{', '&#37;{') for part in parts)
        for parts in lines
    ]


def label(name: str, width: int = 20) -> str:
    """One of :func:`labels`."""
    return labels([name], width)[0]


def line(data: ReportData, method: ReportMethod) -> dict:
    """Colour and dash of a method's line."""
    if role := data.role_of(method):
        return dict(color=ROLE_COLOURS[role], dash=_ROLE_DASHES[role], width=2.5)
    row, colour = divmod(data.methods.index(method), len(_OTHERS))
    return dict(color=_OTHERS[colour], dash=_DASHES[row % len(_DASHES)], width=1.5)


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
) -> go.Scatter:
    """A method's curve; hidden ones wait in the legend for a click."""
    return go.Scatter(
        x=np.round(x, 4),
        y=np.round(y, 4),
        name=label(method.title, 26),
        line=line(data, method),
        hovertemplate=hover,
        visible=is_shown(data, method) or 'legendonly',
        **{'mode': 'lines', **options},
    )


def heat_map(
    values: np.ndarray,
    rows: Iterable[str],
    columns: list[str],
    limits: tuple[float, float] = (0, 1),
    scale: Any = 'Cividis',
    form: str = '.2f',
) -> go.Figure:
    """Matrix (R, C), first row on top; numbers in ``form``, colours in ``limits``."""
    size = (30, 1) if len(columns) > MANY else (20, 2)
    trace = go.Heatmap(
        z=np.round(values, 5),
        x=labels(columns, *size),
        y=labels(rows, *size),
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
    return made.update_xaxes(type='category', showgrid=False)


def class_map(
    methods: list[ReportMethod], values: list, columns: list[str]
) -> go.Figure:
    """Heat map of (M, C) shares: a row a method, the classes on top."""
    made = heat_map(np.array(values), [method.title for method in methods], columns)
    made.update_xaxes(side='top')
    return made.update_layout(margin=dict(t=48, b=16))
