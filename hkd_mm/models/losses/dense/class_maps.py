# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Logits and masks of one class brought into the form of several."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hkd_mm.structures.mask_samples import IGNORE


def with_background(logits: Tensor) -> Tensor:
    """One logit a pixel as two: the background's is zero.

    ``softmax((0, x))`` is ``sigmoid(x)`` for the class, and its cross-entropy
    is the binary one of ``x``, so one formula serves both.

    Args:
        logits: (N, C, h, w); with C > 1 the background is the first.

    Returns:
        (N, max(C, 2), h, w), float32.
    """
    logits = logits.float()
    if logits.shape[1] > 1:
        return logits
    return F.pad(logits, (0, 0, 0, 0, 1, 0))


def one_hot_masks(gt_labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Masks as one plane a class.

    Args:
        gt_labels: (N, h, w) int64 in [0, classes), or 255.
        classes: with the background.

    Returns:
        (N, classes, h, w) float32, zero in all planes where a pixel is
        ignored, and (N, 1, h, w) float32, 1 where it counts.

    Raises:
        RuntimeError: a label is out of range.
    """
    counted = gt_labels != IGNORE
    # scatter_ has bounds checked on the device; a comparison has not
    planes = torch.zeros(
        (len(gt_labels), classes, *gt_labels.shape[1:]),
        device=gt_labels.device,
    ).scatter_(1, (gt_labels * counted).unsqueeze(1), 1.0)
    counted = counted.unsqueeze(1).float()
    return planes * counted, counted
