# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Flips, turns, scales and crops, composed into one map by :mod:`.pipeline`."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import NotNegative, Positive, Share
from hkd_mm.models.preprocessors import affine
from hkd_mm.models.preprocessors.augmentation import (
    Augmentation,
    Draw,
    Filled,
    Fractions,
    Ratios,
    Size,
    Values,
    between,
    box_in_pixels,
    choose,
    random_box,
)
from hkd_mm.registry import TASK_UTILS


class Geometric(Augmentation):
    """Something that moves pixels and leaves their colours alone."""

    exact: ClassVar[bool] = False  # moves whole pixels, no interpolation
    crops: ClassVar[bool] = False  # delivers another size where asked for
    # (fill, padding) outside of the image; None where nothing is read there
    outside = None

    def matrices(self, parameters: Values, source: Size, size: Size) -> Tensor:
        """(B, 3, 3) from result to source, see :mod:`.affine`."""
        raise NotImplementedError


class _Flip(Geometric):
    exact = True
    draws = 1
    axis: ClassVar[int]

    prob: Share = 0.5

    def parameters(self, draw: Draw) -> Values:
        return dict(flip=draw.numbers[:, 0] < self.prob)

    def apply(self, images: Tensor, parameters: Values) -> Tensor:
        return choose(parameters['flip'], images.flip(self.axis), images)

    def matrices(self, parameters: Values, source: Size, size: Size) -> Tensor:
        sign = 1 - 2 * parameters['flip'].float()
        one = torch.ones_like(sign)
        return affine.matrix(*((sign, one) if self.axis == -1 else (one, sign)))


@TASK_UTILS.register_module()
class HorizontalFlip(_Flip):
    """Left and right exchanged with probability ``prob``."""

    axis = -1


@TASK_UTILS.register_module()
class VerticalFlip(_Flip):
    """Top and bottom exchanged with probability ``prob``."""

    axis = -2


@TASK_UTILS.register_module()
class Rotate90(Geometric):
    """0, 1, 2 or 3 quarter turns, counter-clockwise, equally likely.

    Images must be square.
    """

    exact = True
    draws = 1

    def parameters(self, draw: Draw) -> Values:
        return dict(turns=(draw.numbers[:, 0] * 4).to(torch.int64))

    def apply(self, images: Tensor, parameters: Values) -> Tensor:
        if images.shape[-1] != images.shape[-2]:
            raise UserError(
                f'hkd_mm.Rotate90 got images of {images.shape[-2]} x '
                f'{images.shape[-1]}; quarter turns need square ones'
            )
        turns = parameters['turns']
        images = choose(turns % 2 == 1, images.transpose(-1, -2).flip(-2), images)
        return choose(turns >= 2, images.flip((-1, -2)), images)

    def matrices(self, parameters: Values, source: Size, size: Size) -> Tensor:
        turns = parameters['turns']
        cos = (turns == 0).float() - (turns == 2).float()
        sin = (turns == 1).float() - (turns == 3).float()
        return affine.matrix(cos, cos, xy=-sin, yx=sin)


@TASK_UTILS.register_module()
class Rotate(Filled, Geometric):
    """A turn about the centre by an angle uniform in [-degrees, degrees]."""

    draws = 2

    degrees: NotNegative = 10.0  # largest angle; positive angles are counter-clockwise
    prob: Share = 1.0  # of a turn

    def parameters(self, draw: Draw) -> Values:
        angle = between(-self.degrees, self.degrees, draw.numbers[:, 0])
        on = draw.numbers[:, 1] < self.prob
        return dict(angle=angle * on)

    def matrices(self, parameters: Values, source: Size, size: Size) -> Tensor:
        return affine.turn(parameters['angle'])


def fit(images: Tensor, size: Size) -> Tensor:
    """Images (B, C, H, W) in size (h, w), with antialiasing."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode='bilinear', antialias=True)


def fit_masks(masks: Tensor, size: Size) -> Tensor:
    """Class ids (B, 1, H, W) in size (h, w), uint8: nearest pixels."""
    if tuple(masks.shape[-2:]) != tuple(size):
        masks = F.interpolate(masks.float(), size, mode='nearest-exact')
    return masks.to(torch.uint8)


def warp(
    images: Tensor,
    operations: list[Geometric],
    parameters: list[dict],
    size: Size,
    masks: bool = False,
) -> Tensor:
    """Compose the maps of several operations and interpolate (B, C, H, W) once.

    A crop delivers ``size``, (h, w). Masks have class ids: nearest pixels, 0 outside.
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


@TASK_UTILS.register_module()
class RandomResizedCrop(Geometric):
    """A random part of the image, resized to the input size of the network.

    The box is that of torchvision (area uniform, aspect ratio log-uniform, whole
    pixels), but cut to the image where it does not fit, instead of drawn again. No
    antialiasing, as in OpenCV: keep images near their size.
    """

    crops = True
    draws = 4

    scale: Fractions = (0.7, 1.0)  # smallest and largest part of the area
    ratio: Ratios = (3 / 4, 4 / 3)  # smallest and largest width / height

    def parameters(self, draw: Draw) -> Values:
        return random_box(draw.numbers, self.scale, self.ratio)

    def matrices(self, parameters: Values, source: Size, size: Size) -> Tensor:
        top, left, height, width = box_in_pixels(parameters, source)
        return affine.matrix(
            width / size[1],
            height / size[0],
            x0=left + (width - source[1]) / 2,
            y0=top + (height - source[0]) / 2,
        )


@TASK_UTILS.register_module()
class RandomScale(Filled, Geometric):
    """Enlarged by a factor uniform in [low, high] about the centre, cut or filled."""

    draws = 2

    low: Positive = 0.9  # smallest factor; below 1 the image becomes smaller
    high: Positive = 1.1  # largest factor
    prob: Share = 1.0  # of a change

    def __post_init__(self) -> None:
        super().__post_init__()
        most = f'at most high={self.high}'
        self.require(self.low <= self.high, 'low', self.low, most)

    def parameters(self, draw: Draw) -> Values:
        factor = between(self.low, self.high, draw.numbers[:, 0])
        on = draw.numbers[:, 1] < self.prob
        return dict(factor=torch.where(on, factor, torch.ones_like(factor)))

    def matrices(self, parameters: Values, source: Size, size: Size) -> Tensor:
        step = 1 / parameters['factor']
        return affine.matrix(step, step)
