# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Temperature scaling, and the probability above which answers count."""

from typing import NamedTuple

import numpy as np

BOUNDS = (0.05, 20.0)  # of the temperatures that are tried
_LEAST = 1e-7  # probabilities are written with six digits


def tempered(
    scores: np.ndarray, temperature: float, least: float = _LEAST
) -> np.ndarray:
    """``softmax(log(scores) / temperature)``: the logits divided by it.

    Args:
        scores: (N, C) probabilities.
        temperature: > 0; above 1 makes them less sure.
        least: smaller probabilities count as this.
    """
    logits = np.log(np.maximum(scores, least)) / temperature
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def log_loss(
    scores: np.ndarray, labels: np.ndarray, least: float = _LEAST
) -> float:
    """Mean negative log-likelihood, in nats.

    Args:
        scores: (N, C) probabilities.
        labels: (N,) int.
        least: smaller probabilities count as this.
    """
    own = scores[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, least)).mean())


def fit_temperature(
    scores: np.ndarray, labels: np.ndarray, least: float = _LEAST
) -> float:
    """The temperature of the least negative log-likelihood.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017,
    section 4.2.

    Args:
        scores: (N, C) probabilities of images that are not the test's.
        labels: (N,) int.
        least: smaller probabilities count as this.

    Returns:
        Within ``BOUNDS``.
    """
    from scipy.optimize import minimize_scalar

    def loss(power: float) -> float:
        return log_loss(tempered(scores, np.exp(power), least), labels, least)

    found = minimize_scalar(
        loss,
        bounds=tuple(np.log(BOUNDS)),
        method='bounded',
        options=dict(xatol=1e-6),
    )
    return float(np.exp(found.x))


_Z = 1.959963984540054  # of a two-sided 95 % interval
_DIGITS = 1e6


class Sure(NamedTuple):
    """A threshold and what it does on the images it was fitted on.

    Args:
        probability: None where no threshold is sure enough.
        coverage: share of the images that are answered.
        accuracy: of those answers, 0 without any; where lesions are known,
            the mean over lesions of the share of each that is right.
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
    scores: np.ndarray,
    labels: np.ndarray,
    accuracy: float,
    lesions: np.ndarray | None = None,
) -> Sure:
    """The smallest probability that makes answers accurate enough.

    Answers are sure at or above it; images of equal probability come
    together. Of its digits six are kept, rounded down. Photographs of one
    lesion are no independent answers: they count as one, right by the share
    of those that are sure and right.

    Args:
        scores: (N, C) probabilities of images that are not the test's.
        labels: (N,) int.
        accuracy: that the lower end of the 95 % Wilson interval reaches, in
            (0, 1).
        lesions: (N,) int, equal for photographs of one lesion; None where
            each counts for itself.
    """
    confidence = np.floor(scores.max(1) * _DIGITS) / _DIGITS
    right = scores.argmax(1) == labels
    order = np.argsort(-confidence, kind='stable')
    ranked = confidence[order]
    if lesions is None:
        lesions = np.arange(len(order))
    hits, count = _running(right[order], lesions[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # of equal ones
    fits = np.flatnonzero(last & (wilson_lower(hits, count) >= accuracy))
    if not len(fits):
        return Sure(None, 0.0, 0.0, len(labels))
    place = fits[-1]
    return Sure(
        float(ranked[place]),
        float((place + 1) / len(labels)),
        float(hits[place] / count[place]),
        len(labels),
    )


def _running(
    right: np.ndarray, lesions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Right lesions, and lesions, among the first 1, 2, ... N answers."""
    seen: dict[int, tuple[int, int]] = {}
    added = np.empty(len(right))
    for place, (hit, lesion) in enumerate(
        zip(right.tolist(), lesions.tolist())
    ):
        hits, count = seen.get(lesion, (0, 0))
        seen[lesion] = hits + hit, count + 1
        added[place] = (hits + hit) / (count + 1) - hits / max(count, 1)
    first = np.zeros(len(right), int)
    first[np.unique(lesions, return_index=True)[1]] = 1
    return np.cumsum(added), np.cumsum(first)


def answered(
    scores: np.ndarray,
    labels: np.ndarray,
    probability: float | None,
    lesions: np.ndarray | None = None,
) -> Sure:
    """What a threshold does on other scores.

    Args:
        scores: (N, C) probabilities.
        labels: (N,) int.
        probability: the threshold, or None.
        lesions: see :func:`sure_threshold`.
    """
    sure = np.zeros(len(labels), bool)
    if probability is not None:
        sure = scores.max(1) >= probability
    right = (scores.argmax(1) == labels)[sure]
    share = 0.0
    if len(right):
        if lesions is None:
            lesions = np.arange(len(labels))
        hits, count = _running(right, lesions[sure])
        share = float(hits[-1] / count[-1])
    return Sure(probability, float(sure.mean()), share, len(labels))
