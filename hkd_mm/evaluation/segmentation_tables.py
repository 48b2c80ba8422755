# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Figures of slices and patients under their names."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from hkd_mm.errors import UserError

from .segmentation_scores import overlap_scores


def class_names(dataset_meta: dict | None, count: int) -> list[str]:
    """Names of the classes but the background.

    Args:
        dataset_meta: with ``classes``, the background first; without them
            they are called ``class_1`` and so on.
        count: of classes that the net tells from the background.

    Raises:
        UserError: the data set has another number of classes.
    """
    names = (dataset_meta or {}).get('classes')
    if names is None:
        return [f'class_{number}' for number in range(1, count + 1)]
    if len(names) != count + 1:
        raise UserError(
            f'the net tells {count} classes from the background but the data '
            f'set has {len(names)} with it ({", ".join(names)}): set '
            'num_classes of the net accordingly'
        )
    return list(names[1:])


def by_patient(
    counts: np.ndarray,
    patients: Sequence[str | None],
    distances: np.ndarray | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Figures of each patient.

    Overlap is that of the pixels of all slices together, the distance the
    mean over the slices: they need not be neighbours.

    Args:
        counts: (N, C, C), see :func:`confusion_counts`.
        patients: N names; slices of None are left out.
        distances: (N, C - 1).

    Returns:
        Patient -> ``patient_dice`` and so on -> (C - 1,), sorted.
    """
    places = defaultdict(list)
    for place, patient in enumerate(patients):
        if patient is not None:
            places[patient].append(place)
    found = {}
    for patient, own in sorted(places.items()):
        figures = overlap_scores(counts[own].sum(0))
        if distances is not None:
            figures['hd95'] = distances[own].mean(0)
        found[patient] = {f'patient_{k}': v for k, v in figures.items()}
    return found


def add_patients(
    figures: dict[str, np.ndarray], found: dict[str, dict[str, np.ndarray]]
) -> None:
    """Put figures of patients beside those of slices.

    Args:
        figures: name -> (N, K); changed in place.
        found: of :func:`by_patient`; may be empty.
    """
    for name in next(iter(found.values()), ()):
        figures[name] = np.stack([one[name] for one in found.values()])


def slice_rows(
    names: Sequence[str | None],
    patients: Sequence[str | None],
    figures: dict[str, np.ndarray],
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """What each slice has, as plain dicts; undefined figures are None.

    Args:
        names: N sample ids.
        patients: N names.
        figures: name -> (N, K).
        classes: K names.
    """
    rows = []
    for place, (name, patient) in enumerate(zip(names, patients)):
        row = dict(sample_id=name, patient=patient)
        for figure, values in figures.items():
            row.update(dict.fromkeys(_keys(figure, classes)))
            row.update(named(figure, values[place], classes))
        rows.append(row)
    return rows


def _keys(name: str, classes: Sequence[str]) -> list[str]:
    each = [f'{label}/{name}' for label in classes]
    return [name, *(each if len(classes) > 1 else ())]


def named(
    name: str, values: np.ndarray, classes: Sequence[str]
) -> dict[str, float]:
    """A figure as a mean and by class; what is NaN is left out.

    Args:
        name: of the figure.
        values: (K,), one a class.
        classes: K names; of one alone there is no figure of its own.
    """
    found = [_mean(values), *values]
    return {
        key: float(value)
        for key, value in zip(_keys(name, classes), found)
        if not np.isnan(value)
    }


def means(
    figures: dict[str, np.ndarray], classes: Sequence[str]
) -> dict[str, float]:
    """Means over slices or patients, by name.

    Args:
        figures: name -> (N, K); what is NaN is left out.
        classes: K names.
    """
    found = {}
    for name, values in figures.items():
        found.update(named(name, _mean(values), classes))
    return found


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is no NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(0)
    count = known.sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
