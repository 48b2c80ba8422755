# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Everything the sections of a report are made of, read once."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from typing_extensions import TypedDict

from hkd_mm.errors import UserError
from hkd_mm.evaluation.segmentation_scores import mean_by_group
from hkd_mm.experiments.outcome import MethodResult, compare_outcomes, read_outcome
from hkd_mm.experiments.study import Study
from hkd_mm.experiments.table_text import are_unknown, format_image_count, unit_name
from hkd_mm.io.schema import validate
from hkd_mm.metric_names import COMPARED_OF_MASKS, OF_SLICES
from hkd_mm.report.run_places import find_runs
from hkd_mm.training import test_record

ROLES = ('teacher', 'student alone', 'distilled')


@dataclass
class Scores:
    """A ``predictions.csv``, in the order of the sample ids."""

    sample_ids: list[str]  # N names
    groups: list[str]  # N lesions, the sample itself where none is known
    labels: np.ndarray  # (N,) int; 0 of segmentations
    classes: list[str]  # C names; none of segmentations
    scores: np.ndarray  # (N, C) float64
    figures: dict[str, np.ndarray]  # of a segmentor: (N,), NaN where undefined


def read_predictions(path: Path) -> Scores:
    """Read what ``tools/test.py`` has written of each image."""
    again = f'write it again with: python tools/test.py {path.parent}'
    if path.stem != 'predictions':
        again = f'remove {path} and it is made again'
    try:
        rows = test_record.read_predictions(path)
        return _parse(sorted(rows, key=lambda row: row['sample_id']))
    except UserError as error:
        reason = str(error).partition('; write it again')[0]
        raise UserError(f'{reason}; {again}') from None
    except (ValueError, KeyError) as error:
        raise UserError(
            f'{path} holds no predictions with scores, and no figures of '
            f'masks ({error}); {again}'
        ) from None


def _parse(rows: list[dict[str, str]]) -> Scores:
    masks = 'dice' in rows[0]
    group = 'patient' if masks else 'lesion_id'
    names = [key for key in rows[0] if key.startswith('score_')]
    classes = [name.removeprefix('score_') for name in names]
    ids = [row['sample_id'] for row in rows]
    if len(set(ids)) < len(ids):
        raise ValueError('an image stands there twice')
    scores = np.array([[float(row[name]) for name in names] for row in rows])
    figures = {
        name: np.array([float(row[name] or 'nan') for row in rows])
        for name in OF_SLICES
        if name in rows[0]
    }
    if masks:
        if not np.isfinite(figures['dice']).all():
            raise ValueError('a Dice is no number')
    elif not names or not np.isfinite(scores).all():
        raise ValueError('a score is no number')
    return Scores(
        ids,
        [row[group] or row['sample_id'] for row in rows],
        np.array([0 if masks else classes.index(row['label']) for row in rows]),
        classes,
        scores,
        figures,
    )


class _Network(TypedDict, total=False):
    """What a report needs of the networks in ``metrics.json``."""

    parameters: float | None
    gmacs: float | None
    input_size: tuple[int, int] | None


@dataclass(eq=False)
class ReportMethod:
    """A row of the report: one config, trained with S seeds, of N test images."""

    outcome: MethodResult
    folders: list[Path]  # S runs
    scores: np.ndarray  # (S, N, C) float64, probabilities; C is 0 of a segmentor
    figures: dict[str, np.ndarray]  # of a segmentor: (S, N), NaN where undefined
    val_scores: np.ndarray | None = None  # (S, M, C) of M validation images
    val_labels: np.ndarray | None = None  # (M,) int
    val_groups: list[str] = field(default_factory=list)
    val_ids: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.outcome.row.name

    @property
    def title(self) -> str:
        return self.outcome.row.title

    @property
    def chosen(self) -> np.ndarray:
        """(S, N) int, the predicted classes."""
        return self.scores.argmax(2)

    @property
    def network(self) -> dict:
        """What is known of ``parameters``, ``gmacs``, ``input_size``."""
        path = self.folders[0] / 'metrics.json'
        found = self.outcome.reports[0].get('student') or {}
        remedy = '; remove its folder and the run is done again'
        found = validate(_Network, found, f'{path}: student', remedy)
        return {key: value for key, value in found.items() if value is not None}


@dataclass(eq=False)
class ReportData:
    """What the sections share: methods that were tested on the same N images.

    ``teacher``, ``alone`` (the student without a teacher) and ``distilled`` are looked
    at closely; None where they are not known.
    """

    title: str
    methods: list[ReportMethod]
    classes: list[str]  # C names; none of segmentations
    labels: np.ndarray  # (N,) int; 0 of segmentations
    groups: list[str]  # N lesions or patients, the image itself where none is known
    sample_ids: list[str]  # N names
    baselines: tuple[str, ...] = ()  # names of rows that the others are tested against
    compared_by: str = 'balanced_accuracy'  # the metric that is tested
    teacher: ReportMethod | None = None
    alone: ReportMethod | None = None
    distilled: ReportMethod | None = None
    positive: int | None = None  # the class whose sensitivity matters most
    incomplete: list[str] = field(default_factory=list)  # names of rows left out
    options: dict = field(default_factory=dict)  # of tools/report.py
    problems: list[str] = field(default_factory=list)  # what could not be done

    @property
    def of_masks(self) -> bool:
        return self.compared_by in COMPARED_OF_MASKS

    @property
    def group_name(self) -> str:
        """What images are grouped by."""
        return 'patients' if self.of_masks else 'lesions'

    @property
    def unknown(self) -> bool:
        """Whether no lesion or patient of the test images is known."""
        return are_unknown(self.sample_ids, self.groups)

    @property
    def unit(self) -> str:
        """What intervals and differences are over, in the plural."""
        return 'images' if self.unknown else f'whole {self.group_name}'

    @property
    def roles(self) -> dict[str, ReportMethod]:
        """``teacher``, ``student alone``, ``distilled``: those known."""
        known = zip(ROLES, (self.teacher, self.alone, self.distilled))
        return {role: method for role, method in known if method}

    @property
    def closest(self) -> ReportMethod:
        return self.distilled or self.alone or self.methods[0]

    def role_of(self, method: ReportMethod) -> str | None:
        return next((role for role, m in self.roles.items() if m is method), None)

    def dice_by_patient(self, method: ReportMethod) -> dict[str, float]:
        """Patient -> mean Dice over images and seeds."""
        return mean_by_group(method.figures['dice'].mean(0), self.groups)

    @property
    def image_count(self) -> str:
        return format_image_count(self.sample_ids, self.groups, self.group_name)

    @property
    def basis(self) -> str:
        counts = sorted({len(method.folders) for method in self.methods})
        seeds = f'{" or ".join(map(str, counts))} seed{"s" * (counts[-1] > 1)}'
        return (
            f'Test split, {self.image_count}; {seeds} a method; checkpoints chosen '
            f'on validation.{unit_name([m.outcome for m in self.methods])}'
        )


def read_same(paths: list[Path], remedy: str) -> list[Scores]:
    """Read predictions, or end with the remedy if images or classes differ."""
    found = [read_predictions(path) for path in paths]
    for path, one in zip(paths, found):
        if (one.sample_ids, one.classes) != (found[0].sample_ids, found[0].classes):
            raise UserError(
                f'{path} is of other images or classes than {paths[0]}; {remedy}'
            )
    return found


def gather(
    paths: list[str],
    study: Study | None = None,
    roles: dict[str, str | None] | None = None,
    positive: str | None = None,
    baselines: Sequence[str] | None = None,
) -> ReportData:
    """Read the runs and choose which networks are looked at closely.

    Paths are the work dir of a study, or ``NAME=DIR`` of runs, several with one name
    being its seeds; ``study`` and ``baselines`` stand in place of what
    ``tools/compare.py`` wrote down, ``positive`` is the class whose sensitivity matters
    most, by default melanoma.
    """
    study, folders, incomplete = find_runs(paths, study, baselines)
    first = next(iter(folders.values()))[0]
    masks = read_predictions(first / 'predictions.csv').figures
    if masks and study.compared_by not in COMPARED_OF_MASKS:
        study = replace(study, compared_by='dice', metrics=('dice',))
    rows = tuple(row for row in study.rows if row.name in folders)
    names = {row.name for row in rows}
    known = tuple(name for name in study.baselines if name in names)
    study = replace(study, rows=rows, baselines=known)
    runs = [folders[row.name] for row in rows]
    files = [folder / 'predictions.csv' for part in runs for folder in part]
    found = read_same(files, 'a report needs runs of one test split')
    outcomes = [
        read_outcome(row, part, compared_by=study.compared_by)
        for row, part in zip(rows, runs)
    ]
    compare_outcomes(outcomes, study)
    first, parts, methods = found[0], iter(found), []
    for outcome, part in zip(outcomes, runs):
        own = [next(parts) for _ in part]
        scores = np.stack([one.scores for one in own])
        figures = {
            key: np.stack([one.figures[key] for one in own]) for key in first.figures
        }
        methods.append(ReportMethod(outcome, part, scores, figures))
    data = ReportData(
        study.title,
        methods,
        first.classes,
        first.labels,
        first.groups,
        first.sample_ids,
        known,
        study.compared_by,
        incomplete=incomplete,
        positive=_positive(first.classes, positive),
    )
    given = {role: name for role, name in (roles or {}).items() if name}
    kept = {role: name for role, name in study.roles.items() if name in names}
    _choose(data, {**kept, **given})
    return data


def _choose(data: ReportData, roles: dict[str, str]) -> None:
    """Set teacher, student alone and distilled student.

    By default the largest network without a teacher, the first baseline or else the
    smallest of them, and of those with one the best of validation.
    """
    by_name = {method.name: method for method in data.methods}
    for role, name in roles.items():
        if name not in by_name:
            raise UserError(f'--{role} {name}: finished are {", ".join(by_name)}')
        setattr(data, role, by_name[name])
    taught = [m for m in data.methods if m.outcome.reports[0].get('teacher')]
    plain = [method for method in data.methods if method not in taught]
    plain.sort(key=lambda method: method.network.get('parameters', 0))
    if data.teacher is None and len(plain) > 1:
        data.teacher = plain[-1]
    if data.alone is None:
        rest = [method for method in plain if method is not data.teacher]
        named = [m for m in rest if m.name in data.baselines]
        data.alone = (named or rest or [None])[0]
    if data.distilled is None and taught:
        data.distilled = max(
            taught, key=lambda m: m.outcome.validation(data.compared_by)[0]
        )


def _positive(classes: list[str], wanted: str | None) -> int | None:
    lower = [name.lower() for name in classes]
    for name in ('mel', 'melanoma') if wanted is None else (wanted.lower(),):
        if name in lower:
            return lower.index(name)
    if wanted is not None:
        raise UserError(f'--positive {wanted}: the classes are {", ".join(classes)}')
    return None
