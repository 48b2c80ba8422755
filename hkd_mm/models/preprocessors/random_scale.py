# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Larger or smaller about the centre."""

import torch
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.registry import TASK_UTILS

from . import affine
from .augmentation import Draw, between
from .geometric import Geometric, outside


@TASK_UTILS.register_module()
class RandomScale(Geometric):
    """Enlarged by a factor uniform in [low, high] about the centre.

    The size in pixels stays: what grows beyond the edge is cut, what is left
    free about a smaller image is filled.

    Args:
        low: smallest factor, > 0; below 1 the image becomes smaller.
        high: largest factor.
        prob: of a change, in [0, 1].
        fill: see ``hkd_mm.Rotate``.
        padding: see there; equal ones are interpolated together.
    """

    draws = 2

    def __init__(
        self,
        low: float = 0.9,
        high: float = 1.1,
        prob: float = 1.0,
        fill: float = 128.0,
        padding: str = 'constant',
    ) -> None:
        if not 0 < low <= high:
            raise UserError(
                f'hkd_mm.RandomScale: low={low} and high={high} must be '
                'rising numbers above 0'
            )
        self.low, self.high, self.prob = low, high, prob
        self.outside = outside(fill, padding)

    def parameters(self, draw: Draw) -> dict[str, Tensor]:
        factor = between(self.low, self.high, draw.numbers[:, 0])
        on = draw.numbers[:, 1] < self.prob
        return dict(factor=torch.where(on, factor, torch.ones_like(factor)))

    def matrices(
        self,
        parameters: dict[str, Tensor],
        source: tuple[int, int],
        size: tuple[int, int],
    ) -> Tensor:
        step = 1 / parameters['factor']
        zero = torch.zeros_like(step)
        return affine.matrix(step, zero, zero, zero, step, zero)
