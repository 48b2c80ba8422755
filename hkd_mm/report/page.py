# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Blocks that a page is made of, and the page itself."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hkd_mm.errors import UserError
from hkd_mm.experiments.outcome import spread
from hkd_mm.experiments.table_text import format_mean_sd

_HERE = Path(__file__).resolve().parent
Cell = str | tuple[str, float]  # a text, or with the number to sort by


def mean_sd_cell(values) -> Cell:
    """``mean +- sd`` over the seeds."""
    mean, sd = spread([float(value) for value in values])
    return format_mean_sd(mean, sd), mean


def count_cell(count) -> Cell:
    """A whole number."""
    return str(int(count)), int(count)


@dataclass
class Chart:
    """An interactive figure.

    Args:
        name: for its id and its files; letters, digits, ``-``.
        figure: ``plotly.graph_objects.Figure``.
        alt: description for those who do not see it.
        height: in pixels.
        choices: name -> traces to show, where one looks at a part at a time.
    """

    kind: ClassVar[str] = 'chart'
    name: str
    figure: Any
    alt: str
    height: int = 420
    choices: dict[str, list[int]] = field(default_factory=dict)


@dataclass
class Table:
    """A table that a click on a heading sorts; some rows stand out."""

    kind: ClassVar[str] = 'table'
    caption: str
    header: list[str]
    rows: list[list[Cell]]
    marked: set[int] = field(default_factory=set)

    @property
    def cells(self) -> list[list[tuple[str, Any]]]:
        """All cells as pairs; the number is None of a text, or of NaN."""
        return [[_pair(cell) for cell in row] for row in self.rows]


def _pair(cell: Cell) -> tuple[str, float | None]:
    text, value = cell if isinstance(cell, tuple) else (cell, None)
    return text, None if value != value else value


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
    """A part of the page.

    Args:
        name: for its anchor.
        how: a sentence on how to read it.
        basis: images, split and selection rule.
        left_out: reason why there is nothing, where there is nothing.
        tile: least width in pixels of charts that stand side by side; None
            sets them below each other.
    """

    name: str
    title: str
    how: str = ''
    basis: str = ''
    blocks: list = field(default_factory=list)
    left_out: str = ''
    tile: int | None = None

    @property
    def charts(self) -> list[Chart]:
        """The interactive figures in it."""
        return [block for block in self.blocks if isinstance(block, Chart)]


def render(
    title: str,
    sections: list[Section],
    subtitle: str,
    drawn: dict[str, list[tuple[str, str]]] | None = None,
) -> str:
    """The whole page, readable without network.

    Args:
        title: of the page.
        sections: in their order.
        subtitle: under the title.
        drawn: of each chart the pictures that stand in place of a script,
            with their names; None draws them in the reader's browser.
    """
    from jinja2 import Environment
    from plotly.offline import get_plotlyjs

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    # for a script element: no tag can end it
    environment.filters['figure'] = lambda chart: chart.figure.to_json().replace(
        '<', '\\u003c'
    )
    scripts = drawn is None and any(s.charts for s in sections)
    return environment.from_string(_text('page.html.j2')).render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        style=_text('page.css'),
        script=_text('page.js'),
        drawn=drawn,
        plotly=get_plotlyjs() if scripts else '',
    )


def require_libraries() -> None:
    """Refuse to begin without what draws the page."""
    for module, package in (('plotly', 'plotly>=7,<8'), ('jinja2', 'jinja2')):
        try:
            __import__(module)
        except ImportError:
            raise UserError(
                f'a report needs {module}, which is not installed; '
                f'pip install "{package}"'
            ) from None


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding='utf-8')
