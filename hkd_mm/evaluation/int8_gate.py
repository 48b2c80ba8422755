# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Loss of an int8 network, and whether it is too much."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.significance import ALPHA, holm

_ONE_SIDED = 1.645  # standard errors: 5 % of chance lies above
_CURE = 'calibrate on more images, allow more, or give --no-int8'


def compare_int8(
    fp32: np.ndarray,
    int8: np.ndarray,
    labels: np.ndarray,
    measured: dict[str, dict],
    limit: float,
    recall_limit: float,
) -> dict[str, Any]:
    """Measure what int8 costs, of (N, C) logits of both networks.

    ``points_lost`` and their standard error, over other validation images, are of
    balanced accuracy, ``recall`` has the same of each class with images; so are the
    limits. ``measured`` has ``fp32`` and ``int8`` of :func:`.checks.figures`.
    """
    before, after = measured['fp32'], measured['int8']
    lost = before['balanced_accuracy'] - after['balanced_accuracy']
    right, still = (one.argmax(1) == labels for one in (fp32, int8))
    # of the difference of two balanced accuracies on the same images; an error rate
    # of none or all of two images says nothing of the rest
    parts = [(right.astype(float) - still)[labels == k] for k in np.unique(labels)]
    variance = sum(p.var(ddof=1) / len(p) for p in parts if len(p) > 1)
    return dict(
        points_lost=100 * lost,
        standard_error=100 * float(np.sqrt(variance) / len(parts)),
        limit=limit,
        recall_limit=recall_limit,
        recall=_recall(right, still, labels, list(before['recall'])),
        same_answers=float((fp32.argmax(1) == int8.argmax(1)).mean()),
        max_logit_difference=float(np.abs(fp32 - int8).max()),
        rms_logit_difference=float(np.sqrt(((fp32 - int8) ** 2).mean())),
    )


def _recall(
    right: np.ndarray, still: np.ndarray, labels: np.ndarray, names: list[str]
) -> dict[str, dict[str, float]]:
    """Loss of each class with images; ``p`` of a sign test, adjusted after Holm."""
    from scipy.stats import binomtest

    found = {}
    for index, name in enumerate(names):
        own = labels == index
        if not own.any():
            continue
        wrong = int((own & right & ~still).sum())
        corrected = int((own & ~right & still).sum())
        test = binomtest(wrong, max(wrong + corrected, 1), alternative='greater')
        found[name] = dict(
            images=int(own.sum()),
            turned_wrong=wrong,
            turned_right=corrected,
            points_lost=100 * (wrong - corrected) / int(own.sum()),
            p=float(test.pvalue),  # 1 where nothing changed
        )
    adjusted = holm([one['p'] for one in found.values()])
    for one, p in zip(found.values(), adjusted, strict=True):
        one['p'] = float(p)
    return found


def refuse_int8(
    costs: dict[str, Any], score: str = 'balanced accuracy', strict: bool = False
) -> str | None:
    """Refuse an int8 network that lost too much, in all or in one class.

    More than a limit is too much where chance does not explain it, in a one-sided test
    at 5 %, or if ``strict``. Returned is a note on losses that may be chance, else
    None. ``costs`` are those of :func:`compare_int8`, of a segmentor without
    ``recall``.
    """
    doubts = []
    for loss, chance in _losses(costs, score):
        if not chance:
            raise UserError(f'{loss}; {_CURE}; nothing was written')
        if strict:
            raise UserError(
                f'{loss}; that may be chance, which --int8-strict does not '
                f'let pass; {_CURE}; nothing was written'
            )
        doubts.append(loss)
    if not doubts:
        return None
    return f'{"; ".join(doubts)}; that may be chance: more images would tell'


def _losses(costs: dict[str, Any], score: str) -> Iterator[tuple[str, bool]]:
    """Losses above a limit, the most certain first; whether they may be chance."""
    lost, error = costs['points_lost'], costs['standard_error']
    if lost > costs['limit']:
        loss = (
            f'int8 loses {lost:.2f} points of {score} on the validation split '
            f'(standard error {error:.2f}), more than --int8-limit {costs["limit"]:g}'
        )
        yield loss, lost <= _ONE_SIDED * error
    above = [
        (name, one)
        for name, one in costs.get('recall', {}).items()
        if one['points_lost'] > costs['recall_limit']
    ]
    above.sort(key=lambda item: (item[1]['p'], -item[1]['points_lost']))
    for name, one in above:
        loss = (
            f'int8 loses {one["points_lost"]:.2f} points of the recall of '
            f'{name} on the validation split (of {one["images"]} images '
            f'{one["turned_wrong"]} turned wrong and {one["turned_right"]} '
            f'right), more than --int8-recall-limit {costs["recall_limit"]:g}'
        )
        yield loss, one['p'] > ALPHA
