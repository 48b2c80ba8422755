# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Compute weights against class imbalance from the training split."""

from collections.abc import Sequence

import numpy as np

from hkd_mm.errors import UserError

WORDS = ('balanced', 'sqrt_balanced')


def balanced_weights(
    counts: Sequence[int], word: str = 'balanced', classes: Sequence[str] | None = None
) -> list[float]:
    """Class weights whose mean over the training samples is one.

    With n_c samples of class c, n in all and C classes:

    - ``balanced``: w_c = n / (C n_c), scikit-learn's formula; every class
      has the same share in the loss, n / C.
    - ``sqrt_balanced``: w_c ~ 1 / sqrt(n_c), scaled so that
      sum_c n_c w_c = n; milder, a common choice when the rarest class is
      some fifty times smaller than the largest.

    Returns:
        C floats, rounded to six digits.

    Raises:
        UserError: an unknown word, or a class without a sample.
    """
    if word not in WORDS:
        raise UserError(
            f'class_weight="{word}" must be balanced, '
            'sqrt_balanced, None or one number a class'
        )
    counts = np.asarray(counts, dtype=np.float64)
    for index in np.flatnonzero(counts == 0):
        name = classes[index] if classes is not None else f'number {index}'
        raise UserError(
            f'class_weight={word}: the training split has no image of class {name}; '
            'add some, or set class_weight=None'
        )
    raw = 1 / counts if word == 'balanced' else 1 / np.sqrt(counts)
    weights = raw * counts.sum() / (raw * counts).sum()
    return [round(float(weight), 6) for weight in weights]


def class_prior(counts: Sequence[int], word: str = 'train') -> list[float]:
    """Share of each class in the training samples, to six digits; none counts as one.

    Raises:
        UserError: another word than ``train``.
    """
    if word != 'train':
        raise UserError(
            f'class_prior="{word}" must be train, None or one number a class'
        )
    counts = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    return [float(f'{share:.6g}') for share in counts / counts.sum()]
