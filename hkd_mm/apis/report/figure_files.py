# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The charts of a page as PNG and SVG, in files or in the page itself."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from hkd_mm.errors import UserError

from .page import Chart, Section

_WIDTH = 900  # pixels
_NEEDS = 'pip install "kaleido>=1.0" and a Chrome or Chromium'


class Part(NamedTuple):
    """A chart, or what one choice of it shows.

    Args:
        name: of its file.
        word: of the choice; empty of a whole chart.
        figure: of plotly, on white.
    """

    name: str
    word: str
    figure: Any


def write_figures(
    sections: list[Section], folder: Path, say: Callable[[str], None]
) -> None:
    """Write every chart, and each part of one that is looked at in parts.

    A page is worth having without them: what is missing is said in a line.

    Args:
        sections: of the page.
        folder: made where it is missing.
        say: takes that line.
    """
    found = [
        part
        for section in sections
        for chart in section.charts
        for part in parts(chart)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for kind in ('png', 'svg'):
            _draw(found, folder, kind)
    except UserError as error:
        say(f'no figures written: {error}, or take the buttons of the page')
        return
    say(f'wrote {2 * len(found)} figures to {folder}')


def drawn(sections: list[Section]) -> dict[str, list[tuple[str, str]]]:
    """Every chart as pictures that a page holds in place of scripts.

    Args:
        sections: of the page.

    Returns:
        Name of a chart -> word of each part and its SVG as a data URI.

    Raises:
        UserError: nothing here draws them.
    """
    found = {
        chart.name: list(parts(chart))
        for section in sections
        for chart in section.charts
    }
    with TemporaryDirectory() as place:
        _draw(sum(found.values(), []), Path(place), 'svg')
        return {
            name: [
                (part.word, _data_uri(Path(place, f'{part.name}.svg')))
                for part in of_chart
            ]
            for name, of_chart in found.items()
        }


def check_drawing() -> None:
    """Draw something small.

    Raises:
        UserError: nothing here draws charts.
    """
    from plotly.graph_objects import Figure

    drawn([Section('try', '', blocks=[Chart('try', Figure(), '', 100)])])


def _data_uri(path: Path) -> str:
    coded = base64.b64encode(path.read_bytes()).decode()
    return f'data:image/svg+xml;base64,{coded}'


def _draw(found: list[Part], folder: Path, kind: str) -> None:
    """Write ``<folder>/<name>.<kind>`` of each.

    Raises:
        UserError: kaleido is missing, or finds no browser that starts.
    """
    try:
        import kaleido  # noqa: F401
    except ImportError:
        raise UserError(f'that needs {_NEEDS}') from None
    from plotly.io import write_images

    try:
        write_images(
            fig=[part.figure for part in found],
            file=[folder / f'{part.name}.{kind}' for part in found],
            width=_WIDTH,
            height=[part.figure.layout.height for part in found],
            scale=2 if kind == 'png' else 1,
        )
    except Exception as error:  # whatever a browser that does not start says
        first = re.split(r'[\n.]', str(error).strip())[0]
        raise UserError(
            f'kaleido finds no working Chrome ({first}); it needs {_NEEDS}'
        ) from error


def parts(chart: Chart) -> list[Part]:
    """The chart, or a part for each of its choices.

    Args:
        chart: stays as it is.
    """
    from plotly.graph_objects import Figure

    found = []
    for word, traces in (chart.choices or {'': None}).items():
        made = Figure(chart.figure)
        made.update_layout(
            paper_bgcolor='white',
            plot_bgcolor='white',
            height=chart.height + 60,
        )
        name = chart.name
        if traces is not None:
            name += '-' + re.sub(r'[^a-z0-9]+', '-', word.lower()).strip('-')
            for index, trace in enumerate(made.data):
                trace.visible = index in traces
        found.append(Part(name, word, made))
    return found
