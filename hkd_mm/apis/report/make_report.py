# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What ``tools/report.py`` does."""

import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.progress import Progress

from .figure_files import check_drawing, drawn, write_figures
from .page import Section, render, require_libraries
from .runs import Material


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
        roles: which nets are looked at closely.
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
    from hkd_mm.engine.atomic_backend import AtomicBackend

    if still:
        check_drawing()  # before minutes go into the sections
    from .gather import gather
    from .val_predictions import add_val_scores

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


def _made(material: Material, say: Callable[[str], None]) -> Iterator[Section]:
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


def _sections(material: Material) -> list:
    if material.of_masks:
        return _mask_sections()
    return _class_sections()


def _mask_sections() -> list:
    from .comparison import comparison
    from .cost import cost
    from .leakage import leakage
    from .marked import marked
    from .model_card import model_card
    from .slices import by_patient, slices
    from .training import training

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
    from .agreement import agreement
    from .calibration import calibration
    from .classes import confusions, per_class
    from .comparison import comparison
    from .cost import cost
    from .grad_cam import grad_cam
    from .leakage import leakage
    from .lost import lost
    from .model_card import model_card
    from .operating_points import operating_points
    from .risk_coverage import selective
    from .subgroups import subgroups
    from .training import training

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
    from ..study.study_file import read_study

    return read_study(study, size)
