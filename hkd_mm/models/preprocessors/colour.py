# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Colour arithmetic on planar batches, the amounts differing by sample.

Images are float32 (B, 3, H, W), RGB, in [0, 255]. The formulas are those of
torchvision.transforms.v2.functional on float images, times 255.
"""

import torch
from torch import Tensor

_LUMA = (0.2989, 0.587, 0.114)  # as torchvision


def grey(images: Tensor) -> Tensor:
    """Luma (B, H, W); of one channel that one, copied."""
    if images.shape[1] == 1:
        return images[:, 0].clone()
    red, green, blue = images.unbind(1)
    out = red * _LUMA[0]
    return out.add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def adjust_tone(
    images: Tensor, factor: Tensor, contrast: Tensor, saturation: Tensor
) -> Tensor:
    """``clamp(factor * image + (1 - factor) * other)``, in place.

    The other image is the mean luma where ``contrast`` is 1, the luma where
    ``saturation`` is 1, and black where both are 0 (brightness).

    Args:
        images: see the module.
        factor: >= 0 (B,); 1 leaves the image as it is.
        contrast: 0 or 1, (B,).
        saturation: 0 or 1, (B,); not 1 where ``contrast`` is.

    Returns:
        ``images``.
    """
    other = grey(images)
    rest = 1 - factor
    offset = other.mean((1, 2)) * (rest * contrast)
    other.mul_((rest * saturation).view(-1, 1, 1))
    other.add_(offset.view(-1, 1, 1))
    torch.addcmul(other[:, None], images, factor.view(-1, 1, 1, 1), out=images)
    return images.clamp_(0, 255)


def shift_hue(images: Tensor, turns: Tensor, far: bool = True) -> Tensor:
    """Turn the hue of HSV, in place; saturation and value stay.

    Equal to torchvision's way through HSV up to rounding. Largest and
    smallest channel do not change when the hue turns, so everything is
    computed in multiples of their difference: no division, no case for grey.

    Args:
        images: see the module.
        turns: parts of a full turn in [-0.5, 0.5], (B,).
        far: some turns may be beyond 1/6; without them it is less work.

    Returns:
        ``images``.
    """
    red, green, blue = images.unbind(1)
    high, low = torch.maximum(red, green), torch.minimum(red, green)
    torch.maximum(high, blue, out=high)
    torch.minimum(low, blue, out=low)
    chroma = high - low
    hue = _hue(red, green, blue, high, chroma)
    sixths = (6 * turns).view(-1, 1, 1)
    if far:
        hue.addcmul_(chroma, sixths)
        circle = chroma * 6
        hue = torch.where(hue < 0, hue + circle, hue)
        hue = torch.where(hue >= circle, hue - circle, hue)
        sixths = torch.zeros_like(sixths)
    # A channel is full within one sixth of its own hue (0 red, 2 green,
    # 4 blue) and empty beyond two, on a circle of six.
    peaks = torch.arange(0, 6, 2, device=images.device)
    torch.addcmul(
        hue[:, None],
        chroma[:, None],
        sixths[..., None] - peaks.view(3, 1, 1),
        out=images,
    )
    images.abs_().sub_(chroma[:, None], alpha=3).abs_()
    images.add_((low - chroma)[:, None])
    return images.clamp_(low[:, None], high[:, None])


def _hue(
    red: Tensor, green: Tensor, blue: Tensor, high: Tensor, chroma: Tensor
) -> Tensor:
    """Hue in sixths, -1 to 5, times chroma; overwrites red and green.

    Masks are float products: ``torch.where`` is ten times slower on a CPU.
    """
    hue = (red - green).add_(chroma, alpha=4)
    near_green = (blue - red).add_(chroma, alpha=2).sub_(hue)
    near_red = green - blue
    hue.addcmul_(near_green, green.eq_(high))
    return hue.addcmul_(near_red.sub_(hue), red.eq_(high))
