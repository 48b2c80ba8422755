# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a page is made of, and the page itself."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError

_HERE = Path(__file__).resolve().parent


@dataclass
class Chart:
    """An interactive figure.

    Args:
        name: for its id and its files; letters, digits, ``-``.
        figure: ``plotly.graph_objects.Figure`` without colours of its frame.
        alt: what it shows, for those who do not see it.
        height: in pixels.
        choices: word -> traces to show, where one looks at a part at a time.
    """

    name: str
    figure: Any
    alt: str
    height: int = 420
    choices: dict[str, list[int]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Word for the template."""
        return 'chart'


@dataclass
class Table:
    """A table that a click on a heading sorts.

    Args:
        caption: above it.
        header: names of the columns.
        rows: cells; a pair is a text with the number to sort by.
        marked: indices of rows that stand out.
    """

    caption: str
    header: list[str]
    rows: list[list[str | tuple[str, float]]]
    marked: set[int] = field(default_factory=set)

    @property
    def kind(self) -> str:
        """Word for the template."""
        return 'table'

    @property
    def cells(self) -> list[list[tuple[str, Any]]]:
        """All cells as pairs; the number is None for a word, or of NaN."""
        return [
            [
                _pair(cell if isinstance(cell, tuple) else (cell, None))
                for cell in row
            ]
            for row in self.rows
        ]


def _pair(cell: tuple[str, float | None]) -> tuple[str, float | None]:
    text, value = cell
    return (text, None) if value is not None and value != value else cell


@dataclass
class Picture:
    """One tile: images beside each other with lines under them.

    Args:
        images: data URI and alternative text of each.
        lines: of text.
    """

    images: list[tuple[str, str]]
    lines: list[str]


@dataclass
class Pictures:
    """Tiles.

    Args:
        tiles: at least one.
    """

    tiles: list[Picture]

    @property
    def kind(self) -> str:
        """Word for the template."""
        return 'pictures'


@dataclass
class Facts:
    """A list of names and texts.

    Args:
        items: name, text.
    """

    items: list[tuple[str, str]]

    @property
    def kind(self) -> str:
        """Word for the template."""
        return 'facts'


@dataclass
class Section:
    """A part of the page.

    Args:
        name: for its anchor.
        title: of the heading.
        how: a sentence on how to read it.
        basis: images, split and selection rule.
        blocks: charts, tables, pictures, facts.
        left_out: why there is nothing, where there is nothing.
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
    said: str,
    drawn: dict[str, list[tuple[str, str]]] | None = None,
) -> str:
    """The whole page, readable without network.

    Args:
        title: of the page.
        sections: in their order.
        said: a line under the title.
        drawn: of each chart the pictures that stand in place of a script,
            with their words; None draws them in the reader's browser.
    """
    from jinja2 import Environment
    from plotly.offline import get_plotlyjs

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters['figure'] = _as_json
    template = environment.from_string(_text('page.html.j2'))
    return template.render(
        title=title,
        said=said,
        sections=sections,
        style=_text('page.css'),
        script=_text('page.js'),
        drawn=drawn,
        plotly=get_plotlyjs()
        if drawn is None and any(s.charts for s in sections)
        else '',
    )


def require_libraries() -> None:
    """Refuse to begin without what draws the page.

    Raises:
        UserError: a package is missing.
    """
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


def _as_json(chart: Chart) -> str:
    """Of a figure, for a script element: no tag can end it."""
    return chart.figure.to_json().replace('<', '\\u003c')
