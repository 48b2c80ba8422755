# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Numbers of one evaluation, from class probabilities and labels.

scikit-learn does the arithmetic wherever it has the definition. Top-k and the
calibration error are ours: the former because scikit-learn breaks ties the
other way round than ``argmax``, the latter because it is not there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# What :func:`classification_scores` says of all samples together.
OVERALL = (
    'balanced_accuracy',
    'top1',
    'top5',
    'macro_f1',
    'weighted_f1',
    'macro_precision',
    'macro_specificity',
    'macro_auroc',
    'ece',
)
# ... and of each class, as ``<class>/f1``.
PER_CLASS = (
    'precision',
    'sensitivity',
    'specificity',
    'f1',
    'auroc',
    'support',
)


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of samples whose class is among the k highest scores.

    Of equal scores the lower class index ranks first, as in ``argmax``.

    Args:
        scores: (N, C) floats, no NaN.
        labels: (N,) ints in [0, C).
        k: in [1, C].

    Returns:
        A fraction in [0, 1].
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    lower = np.arange(scores.shape[1])[None] < labels[:, None]
    rank = (scores > own).sum(1) + ((scores == own) & lower).sum(1)
    return float((rank < k).mean())


def expected_calibration_error(
    scores: np.ndarray, labels: np.ndarray, bins: int = 15
) -> float:
    """Gap between confidence and accuracy (Guo et al., ICML 2017, eq. 3).

    ``ECE = sum_b |B_b| / N * |acc(B_b) - conf(B_b)|`` over equal-width bins
    ``((b - 1) / bins, b / bins]`` of the confidence, which is the probability
    of the predicted class. https://arxiv.org/abs/1706.04599

    Args:
        scores: (N, C) probabilities, N >= 1.
        labels: (N,) ints in [0, C).
        bins: number of bins; 15 as in the paper.

    Returns:
        A fraction in [0, 1]; 0 is perfectly calibrated.
    """
    confidence = scores.max(1).astype(np.float64)
    correct = scores.argmax(1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(index, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def _per_class(
    scores: np.ndarray, labels: np.ndarray, matrix: np.ndarray
) -> dict[str, np.ndarray]:
    """Vectors (C,) of each per-class metric, NaN where undefined."""
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    every = np.arange(scores.shape[1])
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, scores.argmax(1), labels=every, zero_division=0
    )
    negatives = len(labels) - support
    false_alarms = matrix.sum(0) - np.diag(matrix)
    # undefined, not bad: without positives there is nothing to find, without
    # negatives nothing to reject
    absent, everywhere = support == 0, negatives == 0
    specificity = 1 - false_alarms / np.maximum(negatives, 1)
    auroc = np.full(len(every), np.nan)
    for index in np.flatnonzero(~absent & ~everywhere):
        auroc[index] = roc_auc_score(labels == index, scores[:, index])
    return dict(
        precision=np.where(absent, np.nan, precision),
        sensitivity=np.where(absent, np.nan, recall),
        specificity=np.where(everywhere, np.nan, specificity),
        f1=np.where(absent, np.nan, f1),
        auroc=auroc,
        support=support,
    )


def classification_scores(
    scores: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> tuple[dict[str, float], np.ndarray]:
    """Every metric of one evaluation.

    Macro values are plain means over the classes that occur in ``labels``;
    there, ``balanced_accuracy`` is the mean sensitivity. A class that is
    never predicted has precision 0. What a class leaves undefined
    (sensitivity, precision, F1 without a positive; specificity without a
    negative; AUROC, one against the rest, without both) is left out of the
    result and out of the means.

    Args:
        scores: (N, C) probabilities, finite, N >= 1.
        labels: (N,) ints in [0, C).
        classes: C names.

    Returns:
        The metrics, fractions in [0, 1] but for the integral
        ``<class>/support`` and ``predicted_classes`` (how many classes were
        predicted for any sample, 1 to C), and the confusion matrix (C, C) of
        counts, true class by row, predicted class by column.
    """
    from sklearn.metrics import confusion_matrix  # 0.8 s, so not at start

    predicted = scores.argmax(1)
    matrix = confusion_matrix(
        labels, predicted, labels=np.arange(len(classes))
    )
    table = _per_class(scores, labels, matrix)
    present = table['support'] > 0

    def macro(name: str) -> float:
        values = table[name][present]
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else float('nan')

    shares = table['support'][present] / len(labels)
    metrics = dict(
        top1=float((predicted == labels).mean()),
        top5=top_k_accuracy(scores, labels, min(5, len(classes))),
        balanced_accuracy=macro('sensitivity'),
        macro_f1=macro('f1'),
        weighted_f1=float((table['f1'][present] * shares).sum()),
        macro_precision=macro('precision'),
        macro_specificity=macro('specificity'),
        macro_auroc=macro('auroc'),
        ece=expected_calibration_error(scores, labels),
        predicted_classes=int(matrix.any(0).sum()),
    )
    for index, name in enumerate(classes):
        for key, values in table.items():
            value = values[index]
            metrics[f'{name}/{key}'] = (
                int(value) if key == 'support' else float(value)
            )
    return {k: v for k, v in metrics.items() if v == v}, matrix


def answers_one_class(metrics: Mapping[str, Any]) -> bool:
    """Whether all samples were given one class though several are present.

    Args:
        metrics: of :func:`classification_scores`, also as read from a file;
            those without ``predicted_classes`` say no.
    """
    supports = (n for key, n in metrics.items() if key.endswith('/support'))
    return metrics.get('predicted_classes') == 1 and (
        sum(support > 0 for support in supports) > 1
    )
