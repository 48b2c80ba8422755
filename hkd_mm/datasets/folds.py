# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Splits for cross-validation, lesions kept together."""

from fractions import Fraction

from hkd_mm.errors import UserError

from .records import Record
from .splits import as_document, draw_parts


def draw_folds(
    records: list[Record], count: int, seed: int = 42
) -> list[dict]:
    """Splits for cross-validation: each photograph is tested once.

    The photographs are drawn into ``count`` equal parts by the rule of
    :func:`.splits.draw_split`. Fold i tests on part i, validates on the next
    one and trains on the others.

    Args:
        records: all photographs.
        count: of folds, >= 3.
        seed: any integer.

    Returns:
        The content of a split file for each fold.

    Raises:
        UserError: fewer than three folds.
    """
    if count < 3:
        raise UserError(
            f'{count} folds: at least 3 are needed, one to test, one to '
            'validate and one to train on'
        )
    drawn = draw_parts(records, (Fraction(1, count),) * count, seed)
    folds = []
    for test in range(count):
        val = (test + 1) % count
        rest = [part for i, part in enumerate(drawn) if i not in (test, val)]
        parts = dict(train=sum(rest, []), val=drawn[val], test=drawn[test])
        ratios = (count - 2, 1, 1)
        folds.append(as_document(records, parts, ratios=ratios, seed=seed))
    return folds
