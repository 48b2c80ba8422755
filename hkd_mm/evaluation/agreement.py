# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Agreement of two networks on the same images, and the Pareto front."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Agreement(NamedTuple):
    """Shares of equal predictions, in [0, 1]; NaN where undefined."""

    same: float  # of all images
    kappa: float  # Cohen's, in [-1, 1]
    where_right: float  # of the images that the reference gets right
    where_wrong: float  # of those that it gets wrong


def agreement(
    labels: np.ndarray, predicted: np.ndarray, reference: np.ndarray
) -> Agreement:
    """Compare predicted classes with those of a reference, (N,) int each."""
    from sklearn.metrics import cohen_kappa_score

    equal, right = predicted == reference, reference == labels
    return Agreement(
        float(equal.mean()),
        float(cohen_kappa_score(predicted, reference)),
        *(
            float(equal[part].mean()) if part.any() else float('nan')
            for part in (right, ~right)
        ),
    )


def agreement_by_class(
    labels: np.ndarray, one: np.ndarray, other: np.ndarray, classes: int
) -> np.ndarray:
    """Share of equal predictions, (N,) int each, in each class: (C,), else NaN."""
    total = np.bincount(labels, minlength=classes)
    same = np.bincount(labels, one == other, classes)
    return np.where(total > 0, same / np.maximum(total, 1), np.nan)


def teacher_only_correct(
    labels: np.ndarray, teacher: np.ndarray, student: np.ndarray
) -> np.ndarray:
    """Indices where the teacher is right and the student wrong.

    Of (N, C) probabilities and (N,) int labels; the teacher's greatest lead in the
    probability of the true class comes first.
    """
    own = np.arange(len(labels))
    lead = teacher[own, labels] - student[own, labels]
    found = np.flatnonzero(
        (teacher.argmax(1) == labels) & (student.argmax(1) != labels)
    )
    return found[np.argsort(-lead[found], kind='stable')]


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> np.ndarray:
    """Points that no other beats in cost and gain, (N,) bool; equals alike."""
    costs, gains = np.asarray(costs, float), np.asarray(gains, float)
    no_worse = (costs <= costs[:, None]) & (gains >= gains[:, None])
    better = (costs < costs[:, None]) | (gains > gains[:, None])
    return ~(no_worse & better).any(1)
