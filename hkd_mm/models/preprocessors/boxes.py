# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Random boxes of images, drawn without the image."""

import math

import torch
from torch import Tensor

from .augmentation import between, per_image


def random_box(
    numbers: Tensor, scale: tuple[float, float], ratio: tuple[float, float]
) -> dict[str, Tensor]:
    """A box without its image: four uniform numbers (B, 4) -> four (B,).

    Returns:
        ``area`` as a part of the image, ``ratio`` = width / height, ``top``
        and ``left`` in [0, 1) from one end of the free room to the other.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    return dict(
        area=between(*scale, numbers[:, 0]),
        ratio=torch.exp(between(low, high, numbers[:, 1])),
        top=numbers[:, 2],
        left=numbers[:, 3],
    )


def box_in_pixels(
    parameters: dict[str, Tensor], source: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whole-numbered (top, left, height, width), each float32 (B,)."""
    height, width = source
    area = parameters['area'] * (height * width)
    tall = (area / parameters['ratio']).sqrt_().round_().clamp_(1, height)
    wide = (area * parameters['ratio']).sqrt_().round_().clamp_(1, width)
    top = (parameters['top'] * (height - tall + 1)).floor_()
    left = (parameters['left'] * (width - wide + 1)).floor_()
    return top, left, tall, wide


def box_mask(parameters: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
    """1 in the boxes of ``random_box``, 0 outside: float32 (B, 1, H, W)."""
    top, left, height, width = (
        per_image(side) for side in box_in_pixels(parameters, size)
    )
    row = torch.arange(size[0], device=top.device).view(1, 1, -1, 1)
    column = torch.arange(size[1], device=top.device).view(1, 1, 1, -1)
    rows = (row >= top) & (row < top + height)
    columns = (column >= left) & (column < left + width)
    return rows.float() * columns.float()
