# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From logits to the classes they name."""

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
