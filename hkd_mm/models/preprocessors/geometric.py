# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Flips, turns and crops.

Neighbours in a list of augmentations are composed into one affine map and
interpolated once (see :mod:`.pipeline`); flips and quarter turns alone move
pixels without interpolation.
"""
import math
from typing import ClassVar

import torch
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.registry import TASK_UTILS

from . import affine
from .augmentation import Augmentation, Draw, between, choose

PADDINGS = ('constant', 'border', 'reflection')


class Geometric(Augmentation):
    """Something that moves pixels and leaves their colours alone.

    Attributes:
        exact: moves whole pixels, needs no interpolation.
        crops: delivers another size where one is asked for.
        outside: (fill, padding) of places outside of the image, None where
            none are read.
    """

    exact: ClassVar[bool] = False
    crops: ClassVar[bool] = False
    outside: tuple[float, str] | None = None

    def matrices(self, parameters: dict[str, Tensor], source: tuple[int, int],
                 size: tuple[int, int]) -> Tensor:
        """(B, 3, 3) from result to source, see :mod:`.affine`."""
        raise NotImplementedError


class _Flip(Geometric):
    """A mirror image with some probability.

    Args:
        prob: of a flip, in [0, 1].
    """

    exact = True
    draws = 1
    axis: ClassVar[int]

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def parameters(self, draw: Draw) -> dict[str, Tensor]:
        return dict(flip=draw.numbers[:, 0] < self.prob)

    def apply(self, images: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        return choose(parameters['flip'], images.flip(self.axis), images)

    def matrices(self, parameters: dict[str, Tensor], source: tuple[int, int],
                 size: tuple[int, int]) -> Tensor:
        sign = 1 - 2 * parameters['flip'].float()
        one, zero = torch.ones_like(sign), torch.zeros_like(sign)
        x, y = (sign, one) if self.axis == -1 else (one, sign)
        return affine.matrix(x, zero, zero, zero, y, zero)


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

    def parameters(self, draw: Draw) -> dict[str, Tensor]:
        return dict(turns=(draw.numbers[:, 0] * 4).to(torch.int64))

    def apply(self, images: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        if images.shape[-1] != images.shape[-2]:
            raise UserError(
                f'hkd_mm.Rotate90 got images of {images.shape[-2]} x '
                f'{images.shape[-1]}; quarter turns need square ones')
        turns = parameters['turns']
        images = choose(
            turns % 2 == 1, images.transpose(-1, -2).flip(-2), images)
        return choose(turns >= 2, images.flip((-1, -2)), images)

    def matrices(self, parameters: dict[str, Tensor], source: tuple[int, int],
                 size: tuple[int, int]) -> Tensor:
        turns = parameters['turns']
        cos = ((turns == 0).float() - (turns == 2).float())
        sin = ((turns == 1).float() - (turns == 3).float())
        zero = torch.zeros_like(sin)
        return affine.matrix(cos, -sin, zero, sin, cos, zero)


@TASK_UTILS.register_module()
class Rotate(Geometric):
    """A turn about the centre by an angle uniform in [-degrees, degrees].

    Args:
        degrees: largest angle; positive angles are counter-clockwise.
        prob: of a turn, in [0, 1].
        fill: value of the corners, 0 to 255. mmpretrain's ``Rotate`` fills
            with 128, torchvision's ``RandomRotation`` with 0.
        padding: ``'constant'`` to fill; ``'border'`` repeats and
            ``'reflection'`` mirrors the edge.
    """

    draws = 2

    def __init__(self, degrees: float = 10.0, prob: float = 1.0,
                 fill: float = 128.0, padding: str = 'constant') -> None:
        self.degrees, self.prob = degrees, prob
        self.outside = outside(fill, padding)

    def parameters(self, draw: Draw) -> dict[str, Tensor]:
        angle = between(-self.degrees, self.degrees, draw.numbers[:, 0])
        on = draw.numbers[:, 1] < self.prob
        return dict(angle=angle * on)

    def matrices(self, parameters: dict[str, Tensor], source: tuple[int, int],
                 size: tuple[int, int]) -> Tensor:
        return affine.turn(parameters['angle'])


@TASK_UTILS.register_module()
class RandomResizedCrop(Geometric):
    """A random part of the image, resized to the input size of the net.

    The box is that of torchvision (area uniform, aspect ratio log-uniform,
    whole pixels) but where it does not fit, it is cut to the image instead of
    drawn again. The pixels just outside of the box serve the interpolation
    at its edge; no antialiasing, as in OpenCV: keep images near their size.

    Args:
        scale: smallest and largest part of the area, in (0, 1].
        ratio: smallest and largest width / height.
    """

    crops = True
    draws = 4

    def __init__(self, scale: tuple[float, float] = (0.7, 1.0),
                 ratio: tuple[float, float] = (3 / 4, 4 / 3)) -> None:
        self.scale, self.ratio = tuple(scale), tuple(ratio)

    def parameters(self, draw: Draw) -> dict[str, Tensor]:
        return random_box(draw.numbers, self.scale, self.ratio)

    def matrices(self, parameters: dict[str, Tensor], source: tuple[int, int],
                 size: tuple[int, int]) -> Tensor:
        top, left, height, width = box_in_pixels(parameters, source)
        zero = torch.zeros_like(top)
        return affine.matrix(
            width / size[1], zero, left + (width - source[1]) / 2,
            zero, height / size[0], top + (height - source[0]) / 2)


def outside(fill: float, padding: str) -> tuple[float, str]:
    """Checked (fill, padding) of :func:`.affine.warp`."""
    if padding not in PADDINGS:
        raise UserError(
            f'padding={padding!r} must be one of {", ".join(PADDINGS)}')
    return (fill if padding == 'constant' else 0.0), padding


def random_box(numbers: Tensor, scale: tuple[float, float],
               ratio: tuple[float, float]) -> dict[str, Tensor]:
    """A box without its image: four uniform numbers (B, 4) -> four (B,).

    Returns:
        ``area`` as a part of the image, ``ratio`` = width / height, ``top``
        and ``left`` in [0, 1) from one end of the free room to the other.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    return dict(
        area=between(*scale, numbers[:, 0]),
        ratio=torch.exp(between(low, high, numbers[:, 1])),
        top=numbers[:, 2], left=numbers[:, 3])


def box_in_pixels(parameters: dict[str, Tensor], source: tuple[int, int]
                  ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whole-numbered (top, left, height, width), each float32 (B,)."""
    height, width = source
    area = parameters['area'] * (height * width)
    tall = (area / parameters['ratio']).sqrt_().round_().clamp_(1, height)
    wide = (area * parameters['ratio']).sqrt_().round_().clamp_(1, width)
    top = (parameters['top'] * (height - tall + 1)).floor_()
    left = (parameters['left'] * (width - wide + 1)).floor_()
    return top, left, tall, wide
