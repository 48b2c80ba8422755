# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the metric of segmentation refuses, in one line each."""

from typing import Any

import numpy as np
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.structures.mask_samples import IGNORE


def check_shapes(probabilities: Tensor, masks: Tensor) -> None:
    """Masks (B, h, w) are in the size of the probabilities (B, C, h, w).

    Raises:
        UserError: they are not.
    """
    sizes = tuple(probabilities.shape[2:]), tuple(masks.shape[1:])
    if len(probabilities) != len(masks) or sizes[0] != sizes[1]:
        raise UserError(
            f'SegmentationMetric got {len(probabilities)} predictions of '
            f'{sizes[0]} and {len(masks)} masks of {sizes[1]}: the net must '
            'answer in the size of its images'
        )


def fits(truth: np.ndarray, classes: int) -> bool:
    """Whether all ids of a mask are below ``classes``, or 255."""
    return bool(((truth < classes) | (truth == IGNORE)).all())


def refuse(name: str | int, finite: bool, classes: int) -> None:
    """Say what is wrong with a sample.

    Args:
        name: its id, or its row.
        finite: its probabilities are; then its mask is wrong.
        classes: that the net tells apart.

    Raises:
        UserError: always.
    """
    if finite:
        raise UserError(
            f'the mask of sample {name} has a class beyond {classes - 1}, the '
            'last that the net tells: num_classes must equal the classes of '
            'the data set'
        )
    raise UserError(
        f'probabilities of sample {name} are NaN or infinite: the net has '
        'diverged; lower optim_wrapper.optimizer.lr or clip gradients'
    )


def threshold_of(evaluator: Any) -> float:
    """The probability from which a pixel is of the class.

    Args:
        evaluator: of a loop; None for a run without one.

    Returns:
        That of the first metric that has one; 0.5 where none has.
    """
    for metric in getattr(evaluator, 'metrics', ()):
        if hasattr(metric, 'threshold'):
            return metric.threshold
    return 0.5
