# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Everything the sections of a report are made of, read once."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.segmentation_scores import OF_SLICES
from hkd_mm.experiments.outcome import (
    MethodResult,
    compare_outcomes,
    read_outcome,
)
from hkd_mm.experiments.study import COMPARED_OF_MASKS, Study
from hkd_mm.experiments.tables import (
    are_unknown,
    format_image_count,
    unit_name,
)
from hkd_mm.report.run_places import find_runs

_SCORE = 'score_'


@dataclass
class Scores:
    """A ``predictions.csv``, in the order of the sample ids.

    Args:
        sample_ids: N names.
        groups: N lesions, the sample itself where none is known.
        labels: (N,) int.
        classes: C names.
        scores: (N, C) float64.
        figures: of a segmentor: name -> (N,) float64.
    """

    sample_ids: list[str]
    groups: list[str]
    labels: np.ndarray
    classes: list[str]
    scores: np.ndarray
    figures: dict[str, np.ndarray] = field(default_factory=dict)


def of_masks(path: Path) -> bool:
    """Whether a ``predictions.csv`` is of a segmentor.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open(newline='', encoding='utf-8') as stream:
            header = next(csv.reader(stream), [])
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read ({error})') from None
    return 'dice' in header


def read_figures(path: Path) -> Scores:
    """Read the figures that ``tools/test.py`` has written of each image.

    Raises:
        UserError: the file cannot be read or holds no figures.
    """
    try:
        with path.open(newline='', encoding='utf-8') as stream:
            lines = sorted(
                csv.DictReader(stream), key=lambda line: line['sample_id']
            )
        figures = {
            name: np.array([float(line[name] or 'nan') for line in lines])
            for name in OF_SLICES
            if name in lines[0]
        }
        return Scores(
            [line['sample_id'] for line in lines],
            [line['patient'] or line['sample_id'] for line in lines],
            np.zeros(len(lines), int),
            [],
            np.zeros((len(lines), 0)),
            figures,
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            f'{path} holds no figures of masks ({error}); write it again '
            f'with tools/test.py --out {path}'
        ) from None


def read_scores(path: Path) -> Scores:
    """Read the probabilities that ``tools/test.py`` has written.

    Raises:
        UserError: the file cannot be read or holds no scores.
    """
    try:
        with path.open(newline='', encoding='utf-8') as stream:
            lines = sorted(
                csv.DictReader(stream), key=lambda line: line['sample_id']
            )
        names = [key for key in lines[0] if key.startswith(_SCORE)]
        classes = [name.removeprefix(_SCORE) for name in names]
        return Scores(
            [line['sample_id'] for line in lines],
            [line['lesion_id'] or line['sample_id'] for line in lines],
            np.array([classes.index(line['label']) for line in lines]),
            classes,
            np.array([[float(line[n]) for n in names] for line in lines]),
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            f'{path} holds no predictions with scores ({error}); write it '
            f'again with tools/test.py --out {path}'
        ) from None


@dataclass(eq=False)
class Method:
    """A row of the report: one config, trained with one or more seeds.

    Args:
        outcome: its figures on the test split.
        folders: the run of each seed, S of them.
        scores: (S, N, C) float64, probabilities of the test images; C is 0
            of a segmentor.
        val_scores: (S, M, C) of the validation images; None where unknown.
        val_labels: (M,) int.
        val_groups: M lesions.
        val_ids: M names.
        figures: of a segmentor: name -> (S, N) float64 of the test images,
            NaN where undefined.
    """

    outcome: MethodResult
    folders: list[Path]
    scores: np.ndarray
    val_scores: np.ndarray | None = None
    val_labels: np.ndarray | None = None
    val_groups: list[str] = field(default_factory=list)
    val_ids: list[str] = field(default_factory=list)
    figures: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the row."""
        return self.outcome.row.name

    @property
    def title(self) -> str:
        """What the reader calls it."""
        return self.outcome.row.title

    @property
    def chosen(self) -> np.ndarray:
        """(S, N) int, the predicted classes."""
        return self.scores.argmax(2)

    @property
    def network(self) -> dict:
        """``parameters`` and ``gmacs`` of the network that is tested."""
        return self.outcome.reports[0].get('student') or {}


@dataclass(eq=False)
class ReportData:
    """What the sections share.

    Args:
        title: of the report.
        methods: all of the same test images.
        classes: C names; none of segmentations.
        labels: (N,) int; 0 of segmentations.
        groups: N lesions or patients, the image itself where none is known.
        sample_ids: N names.
        baselines: names of rows that the others are tested against.
        compared_by: the metric that is tested.
        teacher: of the close look; None where nobody said which it is.
        alone: the student without a teacher; likewise.
        distilled: the distilled student of the close look; likewise.
        positive: index of the class whose sensitivity matters most, or None.
        unfinished: names of rows left out.
        options: words of the command line.
        problems: what could not be done for its methods, a line each.
    """

    title: str
    methods: list[Method]
    classes: list[str]
    labels: np.ndarray
    groups: list[str]
    sample_ids: list[str]
    baselines: tuple[str, ...] = ()
    compared_by: str = 'balanced_accuracy'
    teacher: Method | None = None
    alone: Method | None = None
    distilled: Method | None = None
    positive: int | None = None
    unfinished: list[str] = field(default_factory=list)
    options: dict = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def of_masks(self) -> bool:
        """Whether the networks mark pixels."""
        return self.compared_by in COMPARED_OF_MASKS

    @property
    def whose(self) -> str:
        """What the groups are."""
        return 'patients' if self.of_masks else 'lesions'

    @property
    def unknown(self) -> bool:
        """Whether no lesion or patient of the test images is known."""
        return are_unknown(self.sample_ids, self.groups)

    @property
    def unit(self) -> str:
        """What intervals and differences are over, in the plural."""
        return 'images' if self.unknown else f'whole {self.whose}'

    @property
    def roles(self) -> dict[str, Method]:
        """``teacher``, ``student alone``, ``distilled``: those known."""
        found = {
            'teacher': self.teacher,
            'student alone': self.alone,
            'distilled': self.distilled,
        }
        return {key: value for key, value in found.items() if value}

    @property
    def basis(self) -> str:
        """The images, seeds and selection rule that the figures rest on."""
        seeds = sorted({len(method.folders) for method in self.methods})
        many = ' or '.join(map(str, seeds))
        return (
            f'Test split, '
            f'{format_image_count(self.sample_ids, self.groups, self.whose)}; '
            f'{many} seed'
            f'{"s" * (seeds[-1] > 1)} a method; checkpoints chosen on '
            f'validation.{unit_name([m.outcome for m in self.methods])}'
        )


def read_method(
    outcome: MethodResult, folders: list[Path]
) -> tuple[Method, Scores]:
    """A method with its scores of the test split, and those of its images.

    Raises:
        UserError: a seed was tested on other images or classes.
    """
    paths = [folder / 'predictions.csv' for folder in folders]
    read = read_figures if of_masks(paths[0]) else read_scores
    found = [read(path) for path in paths]
    for folder, one in zip(folders, found):
        if one.sample_ids != found[0].sample_ids or (
            one.classes != found[0].classes
        ):
            raise UserError(
                f'{folder} was tested on other images or classes than '
                f'{folders[0]}; test both on the same split'
            )
    method = Method(outcome, folders, np.stack([one.scores for one in found]))
    method.figures = {
        name: np.stack([one.figures[name] for one in found])
        for name in found[0].figures
    }
    return method, found[0]


def read_history(folder: Path) -> list[dict]:
    """The epochs of a run; none where it left no ``history.json``."""
    try:
        return json.loads((folder / 'history.json').read_text('utf-8'))
    except (OSError, ValueError):
        return []


def gather(
    places: list[str],
    study: Study | None = None,
    roles: dict[str, str | None] | None = None,
    positive: str | None = None,
    baselines: Sequence[str] | None = None,
) -> ReportData:
    """Read the runs and choose which networks are looked at closely.

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
    outcomes: list[MethodResult],
    folders: dict[str, list[Path]],
    unfinished: list[str],
) -> ReportData:
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
    return ReportData(
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


def _choose(material: ReportData, roles: dict[str, str]) -> None:
    """Set teacher, student alone and distilled student.

    Unless said: of the networks without a teacher the largest is the teacher,
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
    plain.sort(key=lambda method: method.network.get('parameters', 0))
    if material.teacher is None and len(plain) > 1:
        material.teacher = plain[-1]
    if material.alone is None:
        rest = [method for method in plain if method is not material.teacher]
        named = [m for m in rest if m.name in material.baselines]
        material.alone = (named or rest or [None])[0]
    if material.distilled is None and taught:
        material.distilled = max(taught, key=lambda m: _validated(m, material))


def _validated(method: Method, material: ReportData) -> float:
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
