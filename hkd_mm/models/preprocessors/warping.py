# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images and masks moved by several operations at once, and resized."""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import affine
from .geometric import Geometric


def fit(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (B, C, H, W) in size (h, w), with antialiasing."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode='bilinear', antialias=True)


def fit_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Class ids (B, 1, H, W) in size (h, w), uint8: nearest pixels."""
    if tuple(masks.shape[-2:]) != tuple(size):
        masks = F.interpolate(masks.float(), size, mode='nearest-exact')
    return masks.to(torch.uint8)


def warp(
    images: Tensor,
    operations: list[Geometric],
    parameters: list[dict],
    size: tuple[int, int],
    masks: bool = False,
) -> Tensor:
    """Compose the maps of several operations and interpolate once.

    Args:
        images: float32 (B, C, H, W).
        operations: in their order.
        parameters: of each.
        size: (h, w) that a crop delivers.
        masks: they are class ids: nearest pixels, filled with 0.
    """
    total, outside = None, (0.0, 'border')
    now = tuple(images.shape[-2:])
    for op, values in zip(operations, parameters):
        after = size if op.crops else now
        one = op.matrices(values, now, after)
        total = one if total is None else affine.compose(total, one)
        outside, now = op.outside or outside, after
    if masks:
        return affine.warp(images, total, now, 0.0, outside[1], 'nearest')
    return affine.warp(images, total, now, *outside)
