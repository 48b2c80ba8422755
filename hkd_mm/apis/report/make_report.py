# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What ``tools/report.py`` does."""

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from hkd_mm.errors import UserError

from .figure_files import write_figures
from .page import Section, render, require_libraries
from .runs import Material


def main(args: Namespace) -> None:
    """Make a report as the command line says."""
    make_report(
        args.places,
        args.out,
        study=args.study,
        roles=dict(
            teacher=args.teacher, alone=args.alone, distilled=args.distilled
        ),
        positive=args.positive,
        figures=args.figures,
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
    roles: dict[str, str | None] | None = None,
    positive: str | None = None,
    figures: str | None = None,
    options: dict | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Write the page.

    Args:
        places: as of :func:`.gather.gather`, like roles and positive.
        out: the ``.html`` file.
        study: a study file, for titles and baselines.
        roles: which nets are looked at closely.
        positive: class whose sensitivity matters most.
        figures: a folder for PNG and SVG files of all charts.
        options: the other words of the command line.
        say: takes lines on what is done.

    Raises:
        UserError: runs cannot be read, or a package is missing.
    """
    require_libraries()
    _check_out(out)
    from hkd_mm.engine.atomic_backend import AtomicBackend

    material = _material(places, study, roles, positive, options or {}, say)
    made = [_timed(make, material, say) for make in _sections(material)]
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    AtomicBackend().put_text(
        render(material.title, made, material.basis), path
    )
    say(f'wrote {path} ({path.stat().st_size / 1e6:.1f} MB)')
    if figures:
        write_figures(made, Path(figures), say)
    return path


def _check_out(out: str) -> None:
    if not out.endswith(('.html', '.htm')):
        raise UserError(f'--out {out}: the report is an .html file')


def _material(
    places: list[str],
    study: str | None,
    roles: dict[str, str | None] | None,
    positive: str | None,
    options: dict,
    say: Callable[[str], None],
) -> Material:
    from .gather import gather
    from .val_predictions import add_val_scores

    material = gather(places, _read_study(study), roles, positive)
    material.title = options.get('title') or material.title
    material.options = options
    if not material.of_masks:
        add_val_scores(material, options.get('calibration', True), say)
    return material


def _timed(
    make: Callable[[Material], Section],
    material: Material,
    say: Callable[[str], None],
) -> Section:
    start = time.perf_counter()
    section = make(material)
    spent = time.perf_counter() - start
    if spent > 5:
        say(f'{section.title}: {spent:.0f} s')
    return section


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


def _read_study(path: str | None):
    if path is None:
        return None
    from ..study.study_file import read_study

    return read_study(path)
