# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ROC curves and operating points of one class against the rest."""

import numpy as np

# false alarm rates (1 - specificity) of a mean ROC curve
FALSE_ALARMS = np.concatenate([np.linspace(0, 0.1, 41), np.linspace(0.12, 1, 45)])


def sensitivity_at(
    truth: np.ndarray, scores: np.ndarray, weights: np.ndarray, specificity: float
) -> float:
    """Highest sensitivity of a threshold that raises few enough alarms, in [0, 1].

    At least the share ``specificity`` of the others is without one; of (N,) ``truth``,
    ``scores`` of the class and ``weights``, how often each image counts. NaN without
    positives or without others.
    """
    truth = np.asarray(truth, bool)
    order = np.argsort(-scores, kind='stable')
    ranked = scores[order]
    hits = np.cumsum(np.where(truth, weights, 0.0)[order])
    alarms = np.cumsum(np.where(truth, 0.0, weights)[order])
    if hits[-1] == 0 or alarms[-1] == 0:
        return float('nan')
    last = np.append(ranked[1:] != ranked[:-1], True)  # of equal scores
    allowed = alarms <= (1 - specificity) * alarms[-1] + 1e-9
    found = hits[last & allowed]
    return float(found[-1] / hits[-1]) if len(found) else 0.0


def auroc_by_seed(truth: np.ndarray, scores: np.ndarray) -> list[float]:
    """Area under the ROC curve of each seed; truth (N,) bool, scores (S, N)."""
    from sklearn.metrics import roc_auc_score

    return [float(roc_auc_score(truth, row)) for row in scores]


def mean_roc(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Sensitivity at each of ``FALSE_ALARMS``, mean over the seeds, (S, N) scores."""
    from sklearn.metrics import roc_curve

    found = []
    for row in scores:
        fpr, tpr, _ = roc_curve(truth, row, drop_intermediate=False)
        # a vertical piece is a jump: what counts is its upper end
        last = np.append(fpr[1:] != fpr[:-1], True)
        found.append(np.interp(FALSE_ALARMS, fpr[last], tpr[last]))
    return np.mean(found, 0)
