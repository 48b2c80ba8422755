# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Make the HTML report of a study."""

import base64
import re
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from hkd_mm.errors import UserError
from hkd_mm.io.progress import Progress
from hkd_mm.report.data import ReportData
from hkd_mm.report.page import Chart, Section, render, require_libraries

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


def main(args: Namespace) -> None:
    """Make a report as the command line says."""
    make_report(
        args.places,
        args.out,
        study=args.study,
        size=args.size,
        baselines=args.baseline,
        roles=dict(
            teacher=args.teacher, alone=args.alone, distilled=args.distilled
        ),
        positive=args.positive,
        figures=args.figures,
        still=args.still,
        options=dict(
            images=not args.no_images,
            calibration=not args.no_calibration,
            metadata=args.metadata,
            data_root=args.data_root,
            verify_report=args.verify_report,
            cam_images=args.cam_images,
            title=args.title,
        ),
    )


def make_report(
    places: list[str],
    out: str,
    study: str | None = None,
    size: str | None = None,
    baselines: list[str] | None = None,
    roles: dict[str, str | None] | None = None,
    positive: str | None = None,
    figures: str | None = None,
    still: bool = False,
    options: dict | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Write the page.

    Args:
        places: as of :func:`.gather.gather`, like baselines, roles and
            positive.
        out: the ``.html`` file.
        study: a study file, in place of the plan in the work dir.
        size: of that file.
        baselines: names that the others are tested against.
        roles: which networks are looked at closely.
        positive: class whose sensitivity matters most.
        figures: a folder for PNG and SVG files of all charts.
        still: charts as pictures and not as scripts: a small page.
        options: the other words of the command line.
        say: takes lines on what is done.

    Raises:
        UserError: runs cannot be read, or a package is missing.
    """
    require_libraries()
    _check_out(out)
    from hkd_mm.io.atomic_files import AtomicBackend

    if still:
        check_drawing()  # before minutes go into the sections
    from hkd_mm.report.data import gather
    from hkd_mm.report.sources import add_val_scores

    material = gather(places, _read(study, size), roles, positive, baselines)
    material.options = options or {}
    material.title = material.options.get('title') or material.title
    if not material.of_masks:
        calibrated = material.options.get('calibration', True)
        add_val_scores(material, calibrated, say)
    made = list(_made(material, say))
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = drawn(made) if still else None
    AtomicBackend().put_text(
        render(material.title, made, material.basis, pictures), path
    )
    say(f'wrote {path} ({path.stat().st_size / 1e6:.1f} MB)')
    if figures:
        write_figures(made, Path(figures), say)
    return path


def _check_out(out: str) -> None:
    if not out.endswith(('.html', '.htm')):
        raise UserError(f'--out {out}: the report is an .html file')


def _made(
    material: ReportData, say: Callable[[str], None]
) -> Iterator[Section]:
    sections = _sections(material)
    with Progress('report', len(sections), 'sections') as progress:
        for make in sections:
            start = time.perf_counter()
            section = make(material)
            spent = time.perf_counter() - start
            if spent > 5:
                say(f'{section.title}: {spent:.0f} s')
            yield section
            progress.advance(note=section.title)


def _sections(material: ReportData) -> list:
    if material.of_masks:
        return _mask_sections()
    return _class_sections()


def _mask_sections() -> list:
    from hkd_mm.report.comparison import comparison, cost
    from hkd_mm.report.examples import marked
    from hkd_mm.report.model_card import model_card
    from hkd_mm.report.subgroups import leakage
    from hkd_mm.report.training import by_patient, slices, training

    return [
        comparison,
        cost,
        slices,
        by_patient,
        training,
        marked,
        leakage,
        model_card,
    ]


def _class_sections() -> list:
    from hkd_mm.report.calibration import agreement, calibration, selective
    from hkd_mm.report.classes import confusions, operating_points, per_class
    from hkd_mm.report.comparison import comparison, cost
    from hkd_mm.report.examples import lost
    from hkd_mm.report.grad_cam import grad_cam
    from hkd_mm.report.model_card import model_card
    from hkd_mm.report.subgroups import leakage, subgroups
    from hkd_mm.report.training import training

    return [
        comparison,
        cost,
        per_class,
        confusions,
        calibration,
        selective,
        operating_points,
        training,
        agreement,
        grad_cam,
        lost,
        subgroups,
        leakage,
        model_card,
    ]


def _read(study: str | None, size: str | None):
    if study is None and size is not None:
        raise UserError(f'--size {size} is that of a study file; add --study')
    if study is None:
        return None
    from hkd_mm.experiments.study import read_study

    return read_study(study, size)
