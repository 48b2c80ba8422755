# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Flips and turns.

Neighbours in a list of augmentations are composed into one affine map and
interpolated once (see :mod:`.pipeline`); flips and quarter turns alone move
pixels without interpolation.
"""

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

    def matrices(
        self,
        parameters: dict[str, Tensor],
        source: tuple[int, int],
        size: tuple[int, int],
    ) -> Tensor:
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

    def matrices(
        self,
        parameters: dict[str, Tensor],
        source: tuple[int, int],
        size: tuple[int, int],
    ) -> Tensor:
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
                f'{images.shape[-1]}; quarter turns need square ones'
            )
        turns = parameters['turns']
        images = choose(
            turns % 2 == 1, images.transpose(-1, -2).flip(-2), images
        )
        return choose(turns >= 2, images.flip((-1, -2)), images)

    def matrices(
        self,
        parameters: dict[str, Tensor],
        source: tuple[int, int],
        size: tuple[int, int],
    ) -> Tensor:
        turns = parameters['turns']
        cos = (turns == 0).float() - (turns == 2).float()
        sin = (turns == 1).float() - (turns == 3).float()
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

    def __init__(
        self,
        degrees: float = 10.0,
        prob: float = 1.0,
        fill: float = 128.0,
        padding: str = 'constant',
    ) -> None:
        self.degrees, self.prob = degrees, prob
        self.outside = outside(fill, padding)

    def parameters(self, draw: Draw) -> dict[str, Tensor]:
        angle = between(-self.degrees, self.degrees, draw.numbers[:, 0])
        on = draw.numbers[:, 1] < self.prob
        return dict(angle=angle * on)

    def matrices(
        self,
        parameters: dict[str, Tensor],
        source: tuple[int, int],
        size: tuple[int, int],
    ) -> Tensor:
        return affine.turn(parameters['angle'])


def outside(fill: float, padding: str) -> tuple[float, str]:
    """Checked (fill, padding) of :func:`.affine.warp`."""
    if padding not in PADDINGS:
        raise UserError(
            f'padding={padding!r} must be one of {", ".join(PADDINGS)}'
        )
    return (fill if padding == 'constant' else 0.0), padding
