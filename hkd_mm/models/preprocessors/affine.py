# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Affine maps of a batch: one matrix a sample, one interpolation for all.

A matrix (B, 3, 3) takes a pixel of the result to the place in the source
where its colour is read. Coordinates are pixels from the image's centre, x to
the right and y down, so that a turn about the centre needs no offsets.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hkd_mm.models.preprocessors.augmentation import Size


def matrix(
    xx: Tensor,
    yy: Tensor,
    xy: Tensor | float = 0.0,
    yx: Tensor | float = 0.0,
    x0: Tensor | float = 0.0,
    y0: Tensor | float = 0.0,
) -> Tensor:
    """(B, 3, 3) from entries (B,): scales, shears and offsets."""
    zero = torch.zeros_like(xx)
    rows = (xx, xy, x0, yx, yy, y0, 0.0, 0.0, 1.0)
    return torch.stack([zero + x for x in rows], dim=1).view(-1, 3, 3)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """The map that does ``first`` to an image and then ``second``.

    Multiplied by hand: TF32 would round a place by tenths of a pixel.
    """
    return (first[:, :, :, None] * second[:, None]).sum(2)


def turn(degrees: Tensor) -> Tensor:
    """Turn the image counter-clockwise by ``degrees`` (B,)."""
    angle = torch.deg2rad(degrees)
    sin, cos = torch.sin(angle), torch.cos(angle)
    return matrix(cos, cos, xy=-sin, yx=sin)


def sampling_grid(matrices: Tensor, source: Size, size: Size) -> Tensor:
    """Where to read, in the units of ``grid_sample``: (B, h, w, 2).

    Of images of ``source`` (H, W), whose outer edges are at -1 and 1.
    """

    def centred(length: int) -> Tensor:
        return torch.arange(length, device=matrices.device).float() - (length - 1) / 2

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
    size: Size,
    fill: float,
    padding: str,
    mode: str = 'bilinear',
) -> Tensor:
    """Read images (B, C, H, W) through affine maps: (B, C, h, w).

    Args:
        images: float32; changed in place where a fill is used.
        fill: value outside of the image; the outermost half pixel blends
            into it, as in OpenCV (torchvision blends twice there).
        padding: ``'constant'``, or ``'border'`` or ``'reflection'`` (then
            ``fill`` is not used).
        mode: ``'bilinear'``, or ``'nearest'`` for class ids.
    """
    grid = sampling_grid(matrices, tuple(images.shape[-2:]), size)
    if padding != 'constant':
        return F.grid_sample(images, grid, mode, padding, align_corners=False)
    if fill:
        images = images.sub_(fill)
    images = F.grid_sample(images, grid, mode, align_corners=False)
    return images.add_(fill) if fill else images
