# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A random part of the image."""

import torch
from torch import Tensor

from hkd_mm.registry import TASK_UTILS

from . import affine
from .augmentation import Draw
from .boxes import box_in_pixels, random_box
from .geometric import Geometric


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

    def __init__(
        self,
        scale: tuple[float, float] = (0.7, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.scale, self.ratio = tuple(scale), tuple(ratio)

    def parameters(self, draw: Draw) -> dict[str, Tensor]:
        return random_box(draw.numbers, self.scale, self.ratio)

    def matrices(
        self,
        parameters: dict[str, Tensor],
        source: tuple[int, int],
        size: tuple[int, int],
    ) -> Tensor:
        top, left, height, width = box_in_pixels(parameters, source)
        zero = torch.zeros_like(top)
        return affine.matrix(
            width / size[1],
            zero,
            left + (width - source[1]) / 2,
            zero,
            height / size[0],
            top + (height - source[0]) / 2,
        )
