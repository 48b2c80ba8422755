# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The charts of a page as PNG and SVG files."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .page import Chart, Section

_WIDTH = 900  # pixels


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
    try:
        import kaleido  # noqa: F401
    except ImportError:
        say('no figures written: that needs pip install "kaleido>=1.0"')
        return
    found = [
        part
        for section in sections
        for chart in section.charts
        for part in parts(chart)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _write(found, folder)
    except Exception as error:  # whatever a browser that does not start says
        first = re.split(r'[\n.]', str(error).strip())[0]
        say(
            f'no figures written: kaleido finds no working Chrome ({first}); '
            'install Chrome or Chromium, or take the buttons of the page'
        )
        return
    say(f'wrote {2 * len(found)} figures to {folder}')


def _write(found: list[tuple[str, Any]], folder: Path) -> None:
    from plotly.io import write_images

    for kind in ('png', 'svg'):
        write_images(
            fig=[made for _, made in found],
            file=[folder / f'{name}.{kind}' for name, _ in found],
            width=_WIDTH,
            height=[made.layout.height for _, made in found],
            scale=2 if kind == 'png' else 1,
        )


def parts(chart: Chart) -> Iterator[tuple[str, Any]]:
    """Name and plotly figure of each file, on white.

    Args:
        chart: stays as it is.
    """
    from plotly.graph_objects import Figure

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
        yield name, made
