# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What ``tools/test.py`` has written of each test image."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.segmentation_scores import OF_SLICES

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
