# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Affine maps of a batch: one matrix a sample, one interpolation for all.

A matrix (B, 3, 3) takes a pixel of the result to the place in the source
where its colour is read. Coordinates are pixels from the image's centre, x to
the right and y down, so that a turn about the centre needs no offsets.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def matrix(
    xx: Tensor, xy: Tensor, x0: Tensor, yx: Tensor, yy: Tensor, y0: Tensor
) -> Tensor:
    """(B, 3, 3) from its six entries (B,), row by row."""
    zero, one = torch.zeros_like(xx), torch.ones_like(xx)
    entries = torch.stack([xx, xy, x0, yx, yy, y0, zero, zero, one], dim=1)
    return entries.view(-1, 3, 3)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """The map that does ``first`` to an image and then ``second``.

    Multiplied by hand: TF32 would round a place by tenths of a pixel.
    """
    return (first[:, :, :, None] * second[:, None]).sum(2)


def turn(degrees: Tensor) -> Tensor:
    """Turn the image counter-clockwise by ``degrees`` (B,)."""
    angle = torch.deg2rad(degrees)
    sin, cos = torch.sin(angle), torch.cos(angle)
    zero = torch.zeros_like(sin)
    return matrix(cos, -sin, zero, sin, cos, zero)


def sampling_grid(
    matrices: Tensor, source: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Where to read, in the units of ``grid_sample``.

    Args:
        matrices: (B, 3, 3), see the module.
        source: (H, W) of the images that are read.
        size: (h, w) of the result.

    Returns:
        (B, h, w, 2), x then y, -1 and 1 at the outer edges of the source.
    """

    def centred(length: int) -> Tensor:
        return (
            torch.arange(length, device=matrices.device, dtype=torch.float32)
            - (length - 1) / 2
        )

    rows = matrices[:, 0] * (2 / source[1]), matrices[:, 1] * (2 / source[0])
    columns = torch.stack(rows, dim=-1)  # (B, 3, 2)
    x = columns[:, None, 0] * centred(size[1])[:, None] + columns[:, None, 2]
    y = columns[:, None, 1] * centred(size[0])[:, None]
    # Pairs added as complex numbers: the inner loop is long, not two.
    x, y = torch.view_as_complex(x), torch.view_as_complex(y)
    return torch.view_as_real(x[:, None] + y[:, :, None])


def warp(
    images: Tensor,
    matrices: Tensor,
    size: tuple[int, int],
    fill: float,
    padding: str,
    mode: str = 'bilinear',
) -> Tensor:
    """Read images through affine maps.

    Args:
        images: float32 (B, C, H, W); changed in place where a fill is used.
        matrices: (B, 3, 3), see the module.
        size: (h, w) of the result.
        fill: value outside of the image; the outermost half pixel blends
            into it, as in OpenCV (torchvision blends twice there).
        padding: ``'constant'``, or ``'border'`` or ``'reflection'`` (then
            ``fill`` is not used).
        mode: ``'bilinear'``, or ``'nearest'`` for class ids.

    Returns:
        (B, C, h, w).
    """
    grid = sampling_grid(matrices, tuple(images.shape[-2:]), size)
    if padding != 'constant':
        return F.grid_sample(
            images, grid, mode, padding_mode=padding, align_corners=False
        )
    if fill:
        images = images.sub_(fill)
    images = F.grid_sample(images, grid, mode, align_corners=False)
    return images.add_(fill) if fill else images
