# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From logits and probabilities to the classes they name."""

import torch
from torch import Tensor


def predicted(logits: Tensor) -> Tensor:
    """The class of every image, or of every pixel.

    Args:
        logits: (N, C), or (N, C, h, w); of pixels C may be 1, a class against
            the background.

    Returns:
        (N,) or (N, h, w) int64.
    """
    if logits.dim() == 4 and logits.shape[1] == 1:
        return (logits[:, 0] > 0).long()
    return logits.argmax(1)


def masks_of(probabilities: Tensor, threshold: float = 0.5) -> Tensor:
    """The class of every pixel.

    Args:
        probabilities: (B, C, h, w); C = 1 of one class, else with the
            background.
        threshold: from which a pixel is of the class, where there is one.

    Returns:
        (B, h, w) uint8.
    """
    if probabilities.shape[1] == 1:
        found = probabilities[:, 0] >= threshold
    else:
        found = probabilities.argmax(1)
    return found.to(torch.uint8)
