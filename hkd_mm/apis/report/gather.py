# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From the words of the command line to what a report is made of."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hkd_mm.errors import UserError

from ..study.outcome import Outcome, compare_outcomes, read_outcome
from ..study.plan import COMPARED_OF_MASKS, Study
from .run_places import find_runs
from .run_scores import of_masks
from .runs import Material, Method, read_method


def gather(
    places: list[str],
    study: Study | None = None,
    roles: dict[str, str | None] | None = None,
    positive: str | None = None,
    baselines: Sequence[str] | None = None,
) -> Material:
    """Read the runs and choose which nets are looked at closely.

    Args:
        places: the work dir of a study, or ``NAME=DIR`` of runs; several
            with one name are its seeds.
        study: gives titles, order, baselines and roles of a work dir; None
            takes what ``tools/compare.py`` wrote down there.
        roles: ``teacher``, ``alone``, ``distilled`` -> name, where said.
        positive: class whose sensitivity matters most; melanoma by default.
        baselines: names that the others are tested against, in place of
            those of the study.

    Raises:
        UserError: nothing is finished there, runs were tested on other
            images, or a name is unknown.
    """
    study, folders, unfinished = find_runs(places, study, baselines)
    marks = of_masks(next(iter(folders.values()))[0] / 'predictions.csv')
    if marks and study.compared_by not in COMPARED_OF_MASKS:
        study = replace(study, compared_by='dice', metrics=('dice',))
    rows = [row for row in study.rows if row.name in folders]
    outcomes = [
        read_outcome(row, folders[row.name], compared_by=study.compared_by)
        for row in rows
    ]
    names = {row.name for row in rows}
    study = replace(
        study,
        rows=tuple(rows),
        baselines=tuple(name for name in study.baselines if name in names),
    )
    compare_outcomes(outcomes, study)
    material = _material(study, outcomes, folders, unfinished)
    said = {role: name for role, name in (roles or {}).items() if name}
    kept = {r: name for r, name in study.roles.items() if name in names}
    _choose(material, {**kept, **said})
    material.positive = _positive(material.classes, positive)
    return material


def _material(
    study: Study,
    outcomes: list[Outcome],
    folders: dict[str, list[Path]],
    unfinished: list[str],
) -> Material:
    methods, first = [], None
    for outcome in outcomes:
        method, scores = read_method(outcome, folders[outcome.row.name])
        first = first or scores
        if scores.sample_ids != first.sample_ids or (
            scores.classes != first.classes
        ):
            raise UserError(
                f'{method.folders[0]} was tested on other images or classes '
                f'than {methods[0].folders[0]}: they make no table'
            )
        methods.append(method)
    return Material(
        study.title,
        methods,
        first.classes,
        first.labels,
        first.groups,
        first.sample_ids,
        study.baselines,
        study.compared_by,
        unfinished=unfinished,
    )


def _choose(material: Material, roles: dict[str, str]) -> None:
    """Set teacher, student alone and distilled student.

    Unless said: of the nets without a teacher the largest is the teacher,
    the first baseline or else the smallest is the student alone; of those
    with one the best of validation is looked at.
    """
    by_name = {method.name: method for method in material.methods}
    for role, name in roles.items():
        if name not in by_name:
            raise UserError(
                f'--{role} {name}: finished are {", ".join(by_name)}'
            )
        setattr(material, role, by_name[name])
    taught = [
        m for m in material.methods if m.outcome.reports[0].get('teacher')
    ]
    plain = [method for method in material.methods if method not in taught]
    plain.sort(key=lambda method: method.net.get('parameters', 0))
    if material.teacher is None and len(plain) > 1:
        material.teacher = plain[-1]
    if material.alone is None:
        rest = [method for method in plain if method is not material.teacher]
        named = [m for m in rest if m.name in material.baselines]
        material.alone = (named or rest or [None])[0]
    if material.distilled is None and taught:
        material.distilled = max(taught, key=lambda m: _validated(m, material))


def _validated(method: Method, material: Material) -> float:
    return method.outcome.validation(material.compared_by)[0]


def _positive(classes: list[str], wanted: str | None) -> int | None:
    lower = [name.lower() for name in classes]
    if wanted is not None:
        if wanted.lower() not in lower:
            raise UserError(
                f'--positive {wanted}: the classes are {", ".join(classes)}'
            )
        return lower.index(wanted.lower())
    known = [name for name in ('mel', 'melanoma') if name in lower]
    return lower.index(known[0]) if known else None
