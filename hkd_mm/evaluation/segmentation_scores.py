# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Overlap and distance of masks as plain functions of arrays."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from hkd_mm.structures.mask_samples import IGNORE


def confusion_counts(
    predicted: np.ndarray, truth: np.ndarray, classes: int
) -> np.ndarray:
    """Pixels of each true class (row) by predicted class (column), int64.

    Both are (h, w), in [0, classes); a pixel of truth 255 does not count.
    """
    counted = truth != IGNORE
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def overlap_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Overlap of every class but the background, name -> (..., C - 1) of (..., C, C).

    With true positive (TP), false positive (FP) and false negative (FN) pixels of a
    class: dice ``2 TP / (2 TP + FP + FN)``, iou ``TP / (TP + FP + FN)``, both 1 where
    truth and prediction are empty; sensitivity ``TP / (TP + FN)``, NaN where the truth
    is empty; precision ``TP / (TP + FP)``, NaN where the prediction is.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)[..., 1:]
    true = confusion.sum(-1)[..., 1:]
    predicted = confusion.sum(-2)[..., 1:]
    return dict(
        dice=_share(2 * right, true + predicted, 1.0),
        iou=_share(right, true + predicted - right, 1.0),
        sensitivity=_share(right, true, np.nan),
        precision=_share(right, predicted, np.nan),
    )


def hausdorff_95(
    predicted: np.ndarray, truth: np.ndarray, spacing: Sequence[float] = (1.0, 1.0)
) -> float:
    """95th percentile of the Hausdorff distance of two masks, (h, w) bool.

    The edge of a mask is its pixels with one of four neighbours outside of it or of the
    image. Of all distances from an edge pixel of one mask to the nearest of the other
    the 95th percentile is taken (linear between ranks), in both directions, and the
    larger returned, as MONAI 1.6 does with ``compute_hausdorff_distance(percentile=95,
    directed=False)``, in the unit of ``spacing``, a pixel's height and width. Two empty
    masks are 0 apart; for one the diagonal of the image stands.
    """
    from scipy.ndimage import binary_erosion

    either = predicted | truth
    if not either.any():
        return 0.0
    if not (predicted.any() and truth.any()):
        return float(np.hypot(*np.multiply(truth.shape, spacing)))
    # No distance leads out of the box around both masks.
    box = tuple(
        slice(places[0], places[-1] + 1)
        for places in map(np.flatnonzero, (either.any(1), either.any(0)))
    )
    padded = (np.pad(mask[box], 1) for mask in (predicted, truth))
    edges = [mask & ~binary_erosion(mask) for mask in padded]
    return max(_directed(*edges, spacing), _directed(*reversed(edges), spacing))


def _directed(start: np.ndarray, end: np.ndarray, spacing: Sequence[float]) -> float:
    from scipy.ndimage import distance_transform_edt

    distances = distance_transform_edt(~end, sampling=spacing)
    return float(np.percentile(distances[start], 95))


def _share(part: np.ndarray, whole: np.ndarray, of_nothing: float) -> np.ndarray:
    share = np.full(np.shape(whole), of_nothing)
    return np.divide(part, whole, out=share, where=whole > 0)


def threshold_of(evaluator: Any) -> float:
    """Probability from which a pixel is of the class, of an evaluator, else 0.5."""
    metrics = getattr(evaluator, 'metrics', ())
    return next((m.threshold for m in metrics if hasattr(m, 'threshold')), 0.5)


def by_patient(
    counts: np.ndarray,
    patients: Sequence[str | None],
    distances: np.ndarray | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Figures of each patient, sorted -> ``patient_dice`` and so on -> (C - 1,).

    Overlap is that of the pixels of all slices together, of counts (N, C, C), the
    distance (N, C - 1) the mean over the slices: they need not be neighbours. Slices of
    the patient None are left out.
    """
    indices = defaultdict(list)
    for index, patient in enumerate(patients):
        if patient is not None:
            indices[patient].append(index)
    found = {}
    for patient, own in sorted(indices.items()):
        figures = overlap_scores(counts[own].sum(0))
        if distances is not None:
            figures['hd95'] = distances[own].mean(0)
        found[patient] = {f'patient_{k}': v for k, v in figures.items()}
    return found


def add_patients(
    figures: dict[str, np.ndarray], found: dict[str, dict[str, np.ndarray]]
) -> None:
    """Put figures of :func:`by_patient` beside those of slices, name -> (N, K)."""
    for name in next(iter(found.values()), ()):
        figures[name] = np.stack([one[name] for one in found.values()])


def slice_rows(
    names: Sequence[str | None],
    patients: Sequence[str | None],
    figures: dict[str, np.ndarray],
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """Rows of N slices as plain dicts; undefined figures, (N, K) each, are None."""
    rows = []
    for index, (name, patient) in enumerate(zip(names, patients)):
        row = dict(sample_id=name, patient=patient)
        for figure, values in figures.items():
            row.update(dict.fromkeys(_keys(figure, classes)))
            row.update(named(figure, values[index], classes))
        rows.append(row)
    return rows


def _keys(name: str, classes: Sequence[str]) -> list[str]:
    each = [f'{label}/{name}' for label in classes]
    return [name, *(each if len(classes) > 1 else ())]


def named(name: str, values: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """A figure, (K,), as a mean and by class if there are several; without NaN."""
    found = [_mean(values), *values]
    return {
        key: float(value)
        for key, value in zip(_keys(name, classes), found)
        if not np.isnan(value)
    }


def means(figures: dict[str, np.ndarray], classes: Sequence[str]) -> dict[str, float]:
    """Means over slices or patients by name, of (N, K) each; without NaN."""
    found = {}
    for name, values in figures.items():
        found.update(named(name, _mean(values), classes))
    return found


def mean_by_group(values: np.ndarray, groups: Sequence[str]) -> dict[str, float]:
    """Group -> mean of its values, both (N,); sorted."""
    names, index = np.unique(groups, return_inverse=True)
    means = np.bincount(index, values) / np.bincount(index)
    return dict(zip(names.tolist(), means.tolist()))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is no NaN; NaN where nothing is."""
    return np.ma.filled(np.ma.masked_invalid(values).mean(0), np.nan)
