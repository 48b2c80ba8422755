# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Selective prediction: risk at coverage, and the threshold of confidence.

The confidence is the probability of the predicted class. ``scores`` are
(N, C) probabilities, ``labels`` (N,) ints.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_Z = 1.959963984540054  # of a two-sided 95 % interval
_DIGITS = 1e6


def risk_coverage(
    scores: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage k / N and error rate of the k most confident images, (N,) each.

    Images of equal confidence count as their mean, so that their order does not matter.
    """
    confidence = scores.max(1)
    wrong = (scores.argmax(1) != labels).astype(float)
    _, group = np.unique(-confidence, return_inverse=True)
    means = np.bincount(group, wrong) / np.bincount(group)
    answered = np.arange(1, len(labels) + 1)
    return answered / len(labels), np.cumsum(means[np.sort(group)]) / answered


def best_aurc(error: float, count: int) -> float:
    """AURC of a confidence that puts every error last.

    AURC is the area under the risk-coverage curve, its mean risk over all k up to
    ``count`` images (Geifman et al., Bias-Reduced Uncertainty Estimation for Deep
    Neural Classifiers, ICLR 2019). ``error`` is the share of wrong predictions.
    """
    wrong = round(error * count)
    answered = np.arange(1, count + 1)
    errors = np.maximum(answered - (count - wrong), 0)
    return float((errors / answered).mean())


class ConfidenceThreshold(NamedTuple):
    """A threshold and its effect on the images it was fitted on."""

    probability: float | None  # None where no threshold is high enough
    coverage: float  # share of the images that are answered
    # of those answers, 0 without any: the mean over lesions of the share that is right
    accuracy: float
    n: int


def wilson_lower(right: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Lower end of the 95 % interval of ``right / count``, count >= 1.

    Wilson, J. Am. Stat. Assoc. 22:209, 1927.
    """
    share = right / count
    square = _Z**2 / count
    spread = np.sqrt(share * (1 - share) / count + square / (4 * count))
    return (share + square / 2 - _Z * spread) / (1 + square)


def confidence_threshold(
    scores: np.ndarray,
    labels: np.ndarray,
    accuracy: float,
    lesions: np.ndarray | None = None,
) -> ConfidenceThreshold:
    """Fit the smallest probability that makes answers accurate enough.

    Answers are confident at or above it, six digits of it, rounded down, if the lower
    end of the 95 % Wilson interval reaches the ``accuracy``, in (0, 1). Images of one
    lesion, equal in ``lesions`` (N,) int, are no independent answers: they count as
    one, right by the share of those that are confident and right. None may be of the
    test split.
    """
    confidence = np.floor(scores.max(1) * _DIGITS) / _DIGITS
    right = scores.argmax(1) == labels
    order = np.argsort(-confidence, kind='stable')
    ranked = confidence[order]
    lesions = np.arange(len(order)) if lesions is None else lesions
    hits, count = _running(right[order], lesions[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # of equal ones
    fits = np.flatnonzero(last & (wilson_lower(hits, count) >= accuracy))
    if not len(fits):
        return ConfidenceThreshold(None, 0.0, 0.0, len(labels))
    end = fits[-1]
    return ConfidenceThreshold(
        float(ranked[end]),
        float((end + 1) / len(labels)),
        float(hits[end] / count[end]),
        len(labels),
    )


def answered(
    scores: np.ndarray,
    labels: np.ndarray,
    probability: float | None,
    lesions: np.ndarray | None = None,
) -> ConfidenceThreshold:
    """Apply a threshold (None: never confident) to other scores."""
    confident = _confident(scores, probability)
    right = (scores.argmax(1) == labels)[confident]
    lesions = np.arange(len(labels)) if lesions is None else lesions
    hits, count = _running(right, lesions[confident])
    share = float(hits[-1] / count[-1]) if len(right) else 0.0
    return ConfidenceThreshold(probability, float(confident.mean()), share, len(labels))


def _confident(scores: np.ndarray, probability: float | None) -> np.ndarray:
    return scores.max(1) >= (np.inf if probability is None else probability)


def _running(right: np.ndarray, lesions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right lesions, and lesions, among the first 1, 2, ... N answers."""
    seen: dict[int, tuple[int, int]] = {}
    added = np.empty(len(right))
    for index, (hit, lesion) in enumerate(zip(right.tolist(), lesions.tolist())):
        hits, count = seen.get(lesion, (0, 0))
        seen[lesion] = hits + hit, count + 1
        added[index] = (hits + hit) / (count + 1) - hits / max(count, 1)
    first = np.zeros(len(right), int)
    first[np.unique(lesions, return_index=True)[1]] = 1
    return np.cumsum(added), np.cumsum(first)


def confident_by_class(
    scores: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    probability: float | None,
) -> dict[str, dict[str, int]]:
    """Count confident answers by class; none without a threshold.

    Name -> ``images`` of the class, how many of them are ``confident_correct`` and
    ``confident_wrong``, and the confident answers that name it
    (``confident_predicted``).
    """
    named = scores.argmax(1)
    confident, right = _confident(scores, probability), named == labels
    found = {}
    for index, name in enumerate(classes):
        own = labels == index
        found[name] = dict(
            images=int(own.sum()),
            confident_correct=int((own & confident & right).sum()),
            confident_wrong=int((own & confident & ~right).sum()),
            confident_predicted=int((confident & (named == index)).sum()),
        )
    return found


def classes_note(by_class: dict[str, dict[str, int]]) -> str | None:
    """Warning of classes whose confident answers are mostly wrong, or None."""
    bad = [
        f'{name} ({found["confident_wrong"]} wrong, {found["confident_correct"]} right)'
        for name, found in by_class.items()
        if found['confident_wrong'] > found['confident_correct']
    ]
    if not bad:
        return None
    return (
        'a confident answer to an image of these classes is wrong more often '
        f'than right on validation: {", ".join(bad)}'
    )


def int8_note(accuracy: float, coverage: float, wanted: float) -> str | None:
    """Warning that float32's threshold is too low for the answers of int8, or None."""
    if not coverage or accuracy >= wanted:
        return None
    return (
        'int8 uses the temperature and threshold of float32, and its '
        f'confident answers are right in {accuracy:.1%} on validation, below '
        f'--confident-accuracy {wanted:g}'
    )
