# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Make the HTML report of a study."""

from __future__ import annotations

import base64
import re
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from hkd_mm.errors import UserError
from hkd_mm.experiments.study import read_study
from hkd_mm.io.atomic_files import AtomicBackend
from hkd_mm.io.progress import Progress
from hkd_mm.lazy import require
from hkd_mm.report.data import ReportData, gather
from hkd_mm.report.sources import add_val_scores

if TYPE_CHECKING:  # they import plotly, which is optional
    from hkd_mm.report.page import Section

_WIDTH = 900  # pixels


def main(args: Namespace) -> None:
    """Make a report from the command line."""
    options = vars(args)
    roles = {role: options.pop(role) for role in ('teacher', 'alone', 'distilled')}
    names = ('paths', 'out', 'study', 'size', 'baselines', 'positive')
    named = {name: options.pop(name) for name in (*names, 'figures', 'still')}
    make_report(**named, roles=roles, options=options)


def make_report(
    paths: list[str],
    out: str,
    study: str | None = None,
    size: str | None = None,
    baselines: list[str] | None = None,
    roles: dict[str, str | None] | None = None,
    positive: str | None = None,
    figures: str | None = None,
    still: bool = False,
    options: dict | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Write the page to ``out``, an ``.html`` file.

    ``paths`` to ``positive`` are those of :func:`.data.gather`, ``study`` and ``size``
    of a study file; ``figures`` is a folder for PNG and SVG files of all charts;
    ``still`` makes charts pictures in place of scripts; ``options`` are the others of
    ``tools/report.py``.
    """
    for module, package in (('plotly', '"plotly>=7,<8"'), ('jinja2', 'jinja2')):
        require(module, 'a report', package)
    from hkd_mm.report.page import Chart, Section, figure, render

    if not out.endswith(('.html', '.htm')):
        raise UserError(f'--out {out}: the report is an .html file')
    if still:  # draw something before minutes go into the sections
        drawn([Section('try', '', blocks=[Chart('try', figure([]), '', 100)])])
    if study is None and size is not None:
        raise UserError(f'--size {size} is that of a study file; add --study')
    plan = read_study(study, size) if study else None
    data = gather(paths, plan, roles, positive, baselines)
    data.options = options or {}
    data.title = data.options.get('title') or data.title
    if not data.of_masks:
        add_val_scores(data, data.options.get('calibration', True), report)
    sections = list(_make_sections(data, report))
    path = Path(out)
    page = render(data.title, sections, data.basis, drawn(sections) if still else None)
    AtomicBackend().put(page.encode('utf-8', 'replace'), path)
    report(f'wrote {path} ({path.stat().st_size / 1e6:.1f} MB)')
    if figures:
        write_figures(sections, Path(figures), report)
    return path


def _make_sections(
    data: ReportData, report: Callable[[str], None]
) -> Iterator[Section]:
    from hkd_mm.report import (
        classes,
        comparison,
        model_card,
        pictures,
        subgroups,
        training,
    )

    of_task = [
        classes.f1_section,
        classes.confusion_section,
        classes.calibration_section,
        classes.risk_section,
        classes.roc_section,
        training.training_section,
        classes.agreement_section,
        pictures.grad_cam_section,
        pictures.lost_section,
        subgroups.subgroups_section,
    ]
    if data.of_masks:
        of_task = [
            training.slices_section,
            training.patients_section,
            training.training_section,
            pictures.masks_section,
        ]
    makers = [
        comparison.comparison_section,
        comparison.cost_section,
        *of_task,
        subgroups.leakage_section,
        model_card.card_section,
    ]
    with Progress('report', len(makers), 'sections') as progress:
        for make in makers:
            start = time.perf_counter()
            section = make(data)
            if (spent := time.perf_counter() - start) > 5:
                report(f'{section.title}: {spent:.0f} s')
            yield section
            progress.advance(note=section.title)


class Part(NamedTuple):
    """A chart (without a choice), or one choice of it."""

    name: str  # of its files, another one for each part
    choice: str
    figure: Any


def write_figures(
    sections: list[Section], folder: Path, report: Callable[[str], None]
) -> None:
    """Write every chart, and each part of it; a line says why they cannot be drawn."""
    found = sum(_parts(sections).values(), [])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for kind in ('png', 'svg'):
            _draw(found, folder, kind)
    except UserError as error:
        report(f'no figures written: {error}, or take the buttons of the page')
        return
    report(f'wrote {2 * len(found)} figures to {folder}')


def drawn(sections: list[Section]) -> dict[str, list[tuple[str, str]]]:
    """Chart -> (choice, SVG as a data URI) of each picture in place of its script."""
    found = _parts(sections, tiled=True)
    with TemporaryDirectory() as folder:
        _draw(sum(found.values(), []), Path(folder), 'svg')

        def uri(part: Part) -> str:
            coded = base64.b64encode(Path(folder, f'{part.name}.svg').read_bytes())
            return f'data:image/svg+xml;base64,{coded.decode()}'

        return {
            name: [(part.choice, uri(part)) for part in parts]
            for name, parts in found.items()
        }


def _draw(found: list[Part], folder: Path, kind: str) -> None:
    require('kaleido', 'that', '"kaleido>=1.0", and have a Chrome or Chromium')
    from plotly.io import write_images

    try:
        write_images(
            fig=[part.figure for part in found],
            file=[folder / f'{part.name}.{kind}' for part in found],
            width=[part.figure.layout.width for part in found],
            height=[part.figure.layout.height for part in found],
            scale=2 if kind == 'png' else 1,
        )
    except Exception as error:  # whatever a browser that does not start says
        first = re.split(r'[\n.]', str(error).strip())[0]
        raise UserError(
            f'kaleido finds no working Chrome ({first}); it needs a Chrome or Chromium'
        ) from error


def _parts(sections: list[Section], tiled: bool = False) -> dict[str, list[Part]]:
    """The pictures of each chart; ``tiled`` ones have the width of their place."""
    from plotly.graph_objects import Figure

    found: dict[str, list[Part]] = {}
    used: set[str] = set()
    for section, chart in [(s, chart) for s in sections for chart in s.charts]:
        found[chart.name] = []
        many, width = len(chart.choices) > 1, _WIDTH
        if tiled and (tile := 420 if many else section.tile):  # see page.css
            columns = min(
                1168 // (tile + 20), len(chart.choices if many else section.charts)
            )
            width = min(_WIDTH, 1168 // columns - 20)
        for choice, traces in (chart.choices or {'': None}).items():
            made = Figure(chart.figure)
            white = dict(paper_bgcolor='white', plot_bgcolor='white')
            made.update_layout(**white, width=width, height=chart.height + 60)
            for index, trace in enumerate(made.data if traces is not None else ()):
                trace.visible = index in traces
            name = re.sub(r'\W+', '-', f'{chart.name} {choice}'.lower())[:60].strip('-')
            if name in used:  # of names that differ in their marks, or in their ends
                name = f'{name}-{len(used)}'
            used.add(name)
            found[chart.name].append(Part(name, choice, made))
    return found
