# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Everything the sections of a report are made of, read once."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError

from ..study.outcome import Outcome
from ..study.plan import COMPARED_OF_MASKS
from ..study.words import are_unknown, images_told, unit_told
from .run_scores import Scores, of_masks, read_figures, read_scores


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

    outcome: Outcome
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
    def net(self) -> dict:
        """``parameters`` and ``gmacs`` of the net that is tested."""
        return self.outcome.reports[0].get('student') or {}


@dataclass(eq=False)
class Material:
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
        """Whether the nets mark pixels."""
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
            f'{images_told(self.sample_ids, self.groups, self.whose)}; '
            f'{many} seed'
            f'{"s" * (seeds[-1] > 1)} a method; checkpoints chosen on '
            f'validation.{unit_told([m.outcome for m in self.methods])}'
        )


def read_method(
    outcome: Outcome, folders: list[Path]
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
