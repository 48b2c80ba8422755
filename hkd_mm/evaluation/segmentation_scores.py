# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How well masks agree, as plain functions of numpy arrays."""

from collections.abc import Sequence

import numpy as np

from hkd_mm.structures.mask_samples import IGNORE

# what SegmentationMetric calls its figures
OF_SLICES = ('dice', 'iou', 'sensitivity', 'precision', 'hd95')
OF_MASKS = (*OF_SLICES, *(f'patient_{name}' for name in OF_SLICES))


def confusion_counts(
    predicted: np.ndarray, truth: np.ndarray, classes: int
) -> np.ndarray:
    """Pixels of each true class (row) by predicted class (column).

    Args:
        predicted: (h, w), class ids in [0, classes).
        truth: (h, w), the same, or 255 where a pixel does not count.
        classes: with the background.

    Returns:
        (classes, classes) int64.
    """
    counted = truth != IGNORE
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def overlap_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Overlap of every class but the background.

    With the pixels that are rightly (TP), wrongly (FP) and not (FN) said to
    be of a class: dice ``2 TP / (2 TP + FP + FN)``, iou
    ``TP / (TP + FP + FN)``, both 1 where truth and prediction are empty;
    sensitivity ``TP / (TP + FN)``, NaN where the truth is empty; precision
    ``TP / (TP + FP)``, NaN where the prediction is.

    Args:
        confusion: (..., C, C) counts, see :func:`confusion_counts`.

    Returns:
        Name -> (..., C - 1) float64.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)[..., 1:]
    true = confusion.sum(-1)[..., 1:]
    said = confusion.sum(-2)[..., 1:]
    return dict(
        dice=_share(2 * right, true + said, 1.0),
        iou=_share(right, true + said - right, 1.0),
        sensitivity=_share(right, true, np.nan),
        precision=_share(right, said, np.nan),
    )


def hausdorff_95(
    predicted: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float] = (1.0, 1.0),
) -> float:
    """95th percentile of the Hausdorff distance of two masks.

    The edge of a mask is its pixels with one of four neighbours outside of
    it; what lies beyond the image is outside. Of all distances from an edge
    pixel of one mask to the nearest of the other the 95th percentile is
    taken (linear between ranks), in both directions, and the larger returned.
    Masks that both mark something get what MONAI 1.6 gives with
    ``compute_hausdorff_distance(percentile=95, directed=False)``, to its
    single precision; others pool both directions before they take the
    percentile.

    Two empty masks are 0 apart. Where one of them is empty there is no
    distance; the diagonal of the image stands for it.

    Args:
        predicted: (h, w) bool.
        truth: (h, w) bool.
        spacing: height and width of a pixel.

    Returns:
        In the unit of ``spacing``.
    """
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
    edges = [_edge(np.pad(mask[box], 1)) for mask in (predicted, truth)]
    return max(
        _directed(*edges, spacing), _directed(*reversed(edges), spacing)
    )


def _edge(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


def _directed(
    start: np.ndarray, end: np.ndarray, spacing: Sequence[float]
) -> float:
    from scipy.ndimage import distance_transform_edt

    distances = distance_transform_edt(~end, sampling=spacing)
    return float(np.percentile(distances[start], 95))


def _share(
    part: np.ndarray, whole: np.ndarray, of_nothing: float
) -> np.ndarray:
    share = np.full(np.shape(whole), of_nothing)
    return np.divide(part, whole, out=share, where=whole > 0)
