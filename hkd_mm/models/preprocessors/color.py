# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Colour and level operations on planar batches.

Images are float32 (B, 3, H, W), RGB, in [0, 255]. The formulas are those of
torchvision.transforms.v2.functional on float images, times 255; operations on
whole levels round them first.
"""

import hashlib
from itertools import permutations
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from hkd_mm.models.arguments import NotNegative, Share
from hkd_mm.models.preprocessors import augmentation
from hkd_mm.registry import TASK_UTILS

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

    ``factor`` is >= 0, the others are 0 or 1 and not both 1, (B,) each.
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

    Equal to torchvision's up to rounding, but computed in multiples of the difference
    of the largest and smallest channel: no division, no case for grey.

    Args:
        turns: parts of a full turn in [-0.5, 0.5], (B,).
        far: some turns may be beyond 1/6; without them it is less work.
    """
    red, green, blue = images.unbind(1)
    high, low = torch.maximum(red, green), torch.minimum(red, green)
    torch.maximum(high, blue, out=high)
    torch.minimum(low, blue, out=low)
    chroma = high - low
    # Hue in sixths, -1 to 5, times chroma. Masks are float products: torch.where is
    # ten times slower on a CPU.
    hue = (red - green).add_(chroma, alpha=4)
    near_green = (blue - red).add_(chroma, alpha=2).sub_(hue)
    near_red = green - blue
    hue.addcmul_(near_green, green.eq_(high))
    hue.addcmul_(near_red.sub_(hue), red.eq_(high))
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
    histogram = torch.zeros((len(level), 256), dtype=torch.int64, device=images.device)
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
    step = augmentation.per_image(torch.exp2(8 - bits))
    return (images.round() / step).floor_() * step


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert what is at or above ``threshold`` (B,)."""
    above = (images >= augmentation.per_image(threshold)).float()
    return torch.lerp(images, 255 - images, above)


def sharpen(images: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor > 1) or towards (< 1) a slightly blurred image."""
    rows = images[..., :-2, :] + images[..., 1:-1, :]
    rows.add_(images[..., 2:, :])
    inner = images[..., 1:-1, 1:-1]
    blurred = inner * 4  # 5 in the middle, 1 around, of 13
    for start in range(3):
        blurred.add_(rows[..., start : start + inner.shape[-1]])
    blurred.div_(13)
    out = images.clone()
    out[..., 1:-1, 1:-1] = torch.lerp(blurred, inner, augmentation.per_image(factor))
    return out.clamp_(0, 255)


@TASK_UTILS.register_module()
class ColorJitter(augmentation.Augmentation):
    """Random brightness, contrast, saturation and hue.

    As mmpretrain's and torchvision's ``ColorJitter``: factors uniform in
    [max(0, 1 - x), 1 + x], hue uniform in [-hue, hue] turns, the four applied in an
    order that is uniform over all 24; but the place of the hue, the one costly
    operation, is drawn once a view for all samples. Grey images have no saturation and
    hue.
    """

    commutes = True
    draws = 6

    brightness: NotNegative = 0.0
    contrast: NotNegative = 0.0
    saturation: NotNegative = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    prob: Share = 1.0  # of a change

    def __post_init__(self) -> None:
        super().__post_init__()
        self.amounts = (self.brightness, self.contrast, self.saturation)
        used = (tone for tone in range(3) if self.amounts[tone])
        self.orders = list(permutations(used))

    def parameters(self, draw: augmentation.Draw) -> augmentation.Values:
        """``factors`` (B, 3) of brightness, contrast and saturation,
        ``order`` (B, n) of the n that are used, ``hue`` (B,) and
        ``hue_place``: how many of the n come before it (one number).
        """
        numbers = draw.numbers
        on = (numbers[:, 5] < self.prob).float()
        amounts = numbers.new_tensor(self.amounts)
        low, high = (1 - amounts).clamp_(min=0), 1 + amounts
        factors = numbers[:, :3] * (high - low) + low
        orders = torch.tensor(self.orders, dtype=torch.int64, device=numbers.device)
        key = f'{draw.seed}/{draw.view}/{draw.name}'.encode()
        return dict(
            factors=torch.lerp(torch.ones_like(factors), factors, on[:, None]),
            order=orders[(numbers[:, 4] * len(orders)).to(torch.int64)],
            hue=augmentation.between(-self.hue, self.hue, numbers[:, 3]) * on,
            hue_place=(hashlib.sha256(key).digest()[0] % (orders.shape[1] + 1)),
        )

    def apply(self, images: Tensor, parameters: augmentation.Values) -> Tensor:
        order = parameters['order']
        factors = parameters['factors'].gather(1, order)
        contrast, saturation = (order == 1).float(), (order == 2).float()
        count = order.shape[1]
        for step in range(count + 1):
            if self.hue and images.shape[1] > 1 and step == parameters['hue_place']:
                images = shift_hue(images, parameters['hue'], far=self.hue > 1 / 6)
            if step < count:
                images = adjust_tone(
                    images, factors[:, step], contrast[:, step], saturation[:, step]
                )
        return images
