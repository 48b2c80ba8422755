# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Numbers of one evaluation, from class probabilities and labels.

scikit-learn does the arithmetic wherever it has the definition. Top-k is our
own because scikit-learn breaks ties in the reverse order of ``argmax``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hkd_mm.evaluation.calibration import expected_calibration_error


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of samples whose class is among the k highest scores.

    Of equal scores the lower class index ranks first, as in ``argmax``; no score of
    the (N, C) may be NaN.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    lower = np.arange(scores.shape[1])[None] < labels[:, None]
    rank = (scores > own).sum(1) + ((scores == own) & lower).sum(1)
    return float((rank < k).mean())


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
    """Every metric of one evaluation, and its confusion matrix.

    Macro values are plain means over the classes that occur in ``labels``;
    ``balanced_accuracy`` is the mean sensitivity. A class that is never predicted has
    precision 0. What is undefined (sensitivity, precision, F1 without a positive;
    specificity without a negative; AUROC, one against the rest, without both) is left
    out of the result and of the means. All are fractions but for the integral
    ``<class>/support`` and ``predicted_classes``.

    Args:
        scores: (N, C) probabilities, finite, N >= 1.
        labels: (N,) ints in [0, C).

    Returns:
        The metrics, and counts (C, C), true class by row, predicted class by column.
    """
    from sklearn.metrics import confusion_matrix  # 0.8 s, so not at start

    predicted = scores.argmax(1)
    matrix = confusion_matrix(labels, predicted, labels=np.arange(len(classes)))
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
            metrics[f'{name}/{key}'] = int(value) if key == 'support' else float(value)
    return {k: v for k, v in metrics.items() if v == v}, matrix


def f1_by_class(labels: np.ndarray, chosen: np.ndarray, classes: int) -> np.ndarray:
    """F1 of each class (C,), mean over the seeds; NaN of a class without an image.

    Labels are (N,) int, ``chosen`` (S, N) the predicted classes.
    """
    from sklearn.metrics import f1_score

    every = np.arange(classes)
    found = [
        f1_score(labels, row, labels=every, average=None, zero_division=0)
        for row in chosen
    ]
    return np.where(np.isin(every, labels), np.mean(found, 0), np.nan)


def confusion_shares(
    labels: np.ndarray, chosen: np.ndarray, classes: int
) -> np.ndarray:
    """Share of each class (row) predicted as each, (C, C); as :func:`f1_by_class`."""
    from sklearn.metrics import confusion_matrix

    every = np.arange(classes)
    total = sum(confusion_matrix(labels, row, labels=every) for row in chosen)
    sums = total.sum(1, keepdims=True)
    return np.where(sums > 0, total / np.maximum(sums, 1), np.nan)


def answers_one_class(metrics: Mapping[str, Any]) -> bool:
    """Whether all samples were given one class though several are present."""
    supports = (n for key, n in metrics.items() if key.endswith('/support'))
    return metrics.get('predicted_classes') == 1 and (
        sum(support > 0 for support in supports) > 1
    )
