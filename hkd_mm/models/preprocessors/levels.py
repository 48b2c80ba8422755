# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Operations on the levels 0 to 255 of an image, batched.

Images are float32 (B, 3, H, W) in [0, 255] and are not changed. Operations
that are defined on whole levels round them first.
"""

import torch
from torch import Tensor

from .augmentation import per_image


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel to the full range, as torchvision."""
    low = images.amin((2, 3), keepdim=True)
    high = images.amax((2, 3), keepdim=True)
    flat = high == low
    low = torch.where(flat, 0, low)
    scale = torch.where(flat, 1, 255 / (high - low))
    return ((images - low) * scale).clamp_(0, 255)


def equalize(images: Tensor) -> Tensor:
    """Make the histogram of each channel flat, as Pillow, level by level."""
    batch, channels, height, width = images.shape
    level = images.round().to(torch.int64).view(batch * channels, -1)
    histogram = torch.zeros(
        (len(level), 256), dtype=torch.int64, device=images.device
    )
    histogram.scatter_add_(1, level, torch.ones_like(level))
    last = histogram.gather(1, level.amax(1, keepdim=True))
    step = (height * width - last) // 255
    below = histogram.cumsum(1) - histogram
    table = (below + step // 2) // step.clamp(min=1)
    table = table.clamp_(max=255).float()
    identity = torch.arange(256, device=images.device).float()
    table = torch.where(step == 0, identity, table)
    return table.gather(1, level).view_as(images)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the upper ``bits`` (B,), whole numbers from 1 to 8."""
    step = per_image(torch.exp2(8 - bits))
    return (images.round() / step).floor_() * step


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert what is at or above ``threshold`` (B,)."""
    above = (images >= per_image(threshold)).float()
    return torch.lerp(images, 255 - images, above)


def sharpen(images: Tensor, factor: Tensor) -> Tensor:
    """Away from (> 1) or towards (< 1) a slightly blurred image.

    Args:
        images: see the module.
        factor: >= 0 (B,).
    """
    rows = images[..., :-2, :] + images[..., 1:-1, :]
    rows.add_(images[..., 2:, :])
    inner = images[..., 1:-1, 1:-1]
    blurred = inner * 4  # 5 in the middle, 1 around, of 13
    for start in range(3):
        blurred.add_(rows[..., start : start + inner.shape[-1]])
    blurred.div_(13)
    out = images.clone()
    out[..., 1:-1, 1:-1] = torch.lerp(blurred, inner, per_image(factor))
    return out.clamp_(0, 255)
