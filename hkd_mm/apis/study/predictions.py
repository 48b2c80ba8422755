# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the nets of a row said of every test image."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError

from .plan import COMPARED_OF_MASKS


@dataclass
class Predictions:
    """What one row's nets said of the test split.

    Args:
        sample_ids: N names.
        groups: N lesions or patients, the sample itself where none is known.
        labels: N class names; empty texts of segmentations.
        chosen: a list of N class names for each seed; of segmentations the
            compared figure of every image.
    """

    sample_ids: list[str]
    groups: list[str]
    labels: list[str]
    chosen: list[list[str] | list[float]]

    @property
    def named_groups(self) -> tuple[list[str], list[str]]:
        """The names of the images, and their groups."""
        return self.sample_ids, self.groups


def read_predictions(by_seed: list[list[Path]], metric: str) -> Predictions:
    """What the nets of a row said, seed by seed.

    Args:
        by_seed: folders of each seed, one a fold.
        metric: that rows are compared by.

    Raises:
        UserError: seeds were tested on other images, or the figures are not
            those of such a net.
    """
    of_slices = metric in COMPARED_OF_MASKS
    group, figure = (
        ('patient', metric) if of_slices else ('lesion_id', 'prediction')
    )
    found: Predictions | None = None
    for folders in by_seed:
        lines = sorted(
            (line for folder in folders for line in _lines(folder)),
            key=lambda line: line['sample_id'],
        )
        ids = [line['sample_id'] for line in lines]
        if found is None:
            _check_columns(folders[0], lines, group, figure)
            groups = [line[group] or line['sample_id'] for line in lines]
            labels = [line.get('label', '') for line in lines]
            found = Predictions(ids, groups, labels, [])
        elif found.sample_ids != ids:
            raise UserError(
                f'{folders[0]}/predictions.csv holds other images than '
                f'{by_seed[0][0]}: the seeds were tested on different splits'
            )
        said = [line[figure] for line in lines]
        found.chosen.append(list(map(float, said)) if of_slices else said)
    assert found is not None
    return found


def _check_columns(folder: Path, lines: list[dict], *wanted: str) -> None:
    for name in wanted:
        if name not in lines[0]:
            raise UserError(
                f'{folder}/predictions.csv has no column {name}: compared_by '
                'of the study is not a figure of such a net'
            )


def _lines(folder: Path) -> list[dict[str, str]]:
    with (folder / 'predictions.csv').open(newline='') as stream:
        return list(csv.DictReader(stream))


def values(labels: list, *values: list) -> list[np.ndarray]:
    """Figures as they are; what stands for the labels is not looked at."""
    return [np.zeros(len(labels), int), *(np.array(v) for v in values)]


def coded(*names: list) -> list[np.ndarray]:
    """Class names as the same whole numbers everywhere."""
    arrays = [np.array(given) for given in names]
    code = np.unique(np.concatenate([array.ravel() for array in arrays]))
    return [np.searchsorted(code, array) for array in arrays]
