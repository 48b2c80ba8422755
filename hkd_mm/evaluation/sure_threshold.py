# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From which probability on an answer is sure enough."""

from typing import NamedTuple

import numpy as np

_Z = 1.959963984540054  # of a two-sided 95 % interval
_DIGITS = 1e6


class Sure(NamedTuple):
    """A threshold and what it does on the images it was fitted on.

    Args:
        probability: None where no threshold is sure enough.
        coverage: share of the images that are answered.
        accuracy: of those answers, 0 without any.
        n: images that it was fitted on.
    """

    probability: float | None
    coverage: float
    accuracy: float
    n: int


def wilson_lower(right: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Lower end of the 95 % Wilson interval of a share.

    Wilson, J. Am. Stat. Assoc. 22:209, 1927.

    Args:
        right: how many were right.
        count: of how many, >= 1.
    """
    share = right / count
    square = _Z**2 / count
    spread = np.sqrt(share * (1 - share) / count + square / (4 * count))
    return (share + square / 2 - _Z * spread) / (1 + square)


def sure_threshold(
    scores: np.ndarray, labels: np.ndarray, accuracy: float
) -> Sure:
    """The smallest probability that makes answers accurate enough.

    Answers are sure at or above it; images of equal probability come
    together. Of its digits six are kept, rounded down.

    Args:
        scores: (N, C) probabilities of images that are not the test's.
        labels: (N,) int.
        accuracy: that the lower end of the 95 % Wilson interval reaches, in
            (0, 1).
    """
    confidence = np.floor(scores.max(1) * _DIGITS) / _DIGITS
    right = scores.argmax(1) == labels
    order = np.argsort(-confidence, kind='stable')
    ranked = confidence[order]
    hits = np.cumsum(right[order])
    count = np.arange(1, len(order) + 1)
    last = np.append(ranked[1:] != ranked[:-1], True)  # of equal ones
    fits = np.flatnonzero(last & (wilson_lower(hits, count) >= accuracy))
    if not len(fits):
        return Sure(None, 0.0, 0.0, len(labels))
    place = fits[-1]
    return Sure(
        float(ranked[place]),
        float(count[place] / len(labels)),
        float(hits[place] / count[place]),
        len(labels),
    )


def answered(scores: np.ndarray, labels: np.ndarray, probability) -> Sure:
    """What a threshold does on other scores.

    Args:
        scores: (N, C) probabilities.
        labels: (N,) int.
        probability: the threshold, or None.
    """
    sure = np.zeros(len(labels), bool)
    if probability is not None:
        sure = scores.max(1) >= probability
    right = (scores.argmax(1) == labels)[sure]
    share = float(right.mean()) if len(right) else 0.0
    return Sure(probability, float(sure.mean()), share, len(labels))
