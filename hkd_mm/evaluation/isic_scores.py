# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The scores of the ISIC challenges, and their submission format.

Unlike :mod:`.classification_scores` a category is predicted where its
probability exceeds 0.5, and what cannot be computed counts as perfect: the
rules of the challenge (ISIC 2018 task 3, ISIC 2019; https://arxiv.org/abs/
1902.03368), for comparing with its leaderboards only.
"""

from collections.abc import Sequence

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.io.tables import write_table

# Categories in the order of the challenges; UNK is none of the others.
CHALLENGES = {
    'ISIC 2018 task 3': ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC'),
    'ISIC 2019': (*('MEL', 'NV', 'BCC', 'AK', 'BKL', 'DF', 'VASC', 'SCC', 'UNK'),),
}


def isic_scores(scores: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict:
    """Scores as the challenges compute them.

    Args:
        scores: (N, C) probabilities.
        labels: (N,) ints in [0, C); each class occurs, none alone.
        classes: C names.

    Returns:
        ``balanced_accuracy``, what entries are ranked by (an image with two highest
        probabilities is wrong); ``per_category``, class -> accuracy, sensitivity,
        specificity, dice, ppv, npv, auc, auc_sens_80 (area of the ROC curve above a
        sensitivity of 0.8), ap (average precision); ``macro_average`` of each.

    Raises:
        UserError: a score is NaN, a class does not occur, or no other does.
    """
    if not np.isfinite(scores).all():
        raise UserError('scores of some images are NaN: the network has diverged')
    counts = np.bincount(labels, minlength=len(classes))
    for name, count in zip(classes, counts):
        if count in (0, len(labels)):
            raise UserError(
                f'class {name} has {count} of {len(labels)} images: its ISIC '
                'scores are undefined'
            )
    found = {
        name: _category(labels == index, scores[:, index])
        for index, name in enumerate(classes)
    }
    return dict(
        balanced_accuracy=_balanced_accuracy(scores, labels, counts),
        per_category=found,
        macro_average={
            key: float(np.mean([category[key] for category in found.values()]))
            for key in found[classes[0]]
        },
    )


def write_submission(
    path: str, sample_ids: Sequence[str], scores: np.ndarray, classes: Sequence[str]
) -> None:
    """Write predictions as a CSV file that the challenges take.

    A line an image, its probabilities with five digits, in the challenge's
    order of the classes; a category that the network does not know (UNK) is 0.

    Args:
        path: of the file.
        sample_ids: N image names.
        scores: (N, C) probabilities.
        classes: C names, in any case and order.

    Raises:
        UserError: they are the classes of neither challenge, or images lack a name.
    """
    column = {name.upper(): index for index, name in enumerate(classes)}
    for order in CHALLENGES.values():
        if column.keys() in ({*order}, {*order} - {'UNK'}):
            break
    else:
        known = '; '.join(
            f'{title}: {" ".join(names)}' for title, names in CHALLENGES.items()
        )
        raise UserError(
            f'the classes {" ".join(classes)} are those of no ISIC challenge '
            f'({known}); a .csv without .isic takes any'
        )
    if None in sample_ids:
        raise UserError(
            f'{path} needs names of its images: put sample_id into the meta_keys'
        )
    own = [scores[:, column[k]] if k in column else 0 * scores[:, 0] for k in order]
    cells = ([f'{cell:.5f}' for cell in row] for row in np.stack(own, 1))
    rows = ([name, *row] for name, row in zip(sample_ids, cells))
    write_table(path, ['image', *order], rows)


def _balanced_accuracy(
    scores: np.ndarray, labels: np.ndarray, counts: np.ndarray
) -> float:
    highest = scores.max(1, keepdims=True)
    decided = (scores == highest).sum(1) == 1
    right = decided & (scores.argmax(1) == labels)
    return float((np.bincount(labels, right, len(counts)) / counts).mean())


def _category(truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    predicted = scores > 0.5
    tp, fp = (truth & predicted).sum(), (~truth & predicted).sum()
    fn, tn = (truth & ~predicted).sum(), (~truth & ~predicted).sum()
    return dict(
        accuracy=_share(tp + tn, len(truth)),
        sensitivity=_share(tp, tp + fn),
        specificity=_share(tn, tn + fp),
        dice=_share(2 * tp, 2 * tp + fp + fn),
        ppv=_share(tp, tp + fp),
        npv=_share(tn, tn + fn),
        auc=float(roc_auc_score(truth, scores)),
        auc_sens_80=_area_above(truth, scores, 0.8),
        ap=float(average_precision_score(truth, scores)),
    )


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 1.0


def _area_above(truth: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """Area of the ROC curve right of where it reaches a sensitivity."""
    from sklearn.metrics import auc, roc_curve

    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    first = int(tpr.searchsorted(sensitivity))
    start = np.interp(
        sensitivity, tpr[first - 1 : first + 1], fpr[first - 1 : first + 1]
    )
    return float(
        auc(
            np.concatenate([[start], fpr[first:]]),
            np.concatenate([[sensitivity], tpr[first:]]),
        )
    )
