# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One box of an image painted over."""

import torch
from torch import Tensor

from hkd_mm.registry import TASK_UTILS

from .augmentation import Augmentation, Draw, per_image
from .boxes import box_mask, random_box


@TASK_UTILS.register_module()
class RandomErasing(Augmentation):
    """Paint over a box of random place, size and shape.

    The box is that of torchvision's ``RandomErasing`` (area uniform, aspect
    ratio log-uniform); where it does not fit, it is cut to the image instead
    of drawn again.

    Args:
        prob: of a box, in [0, 1].
        scale: smallest and largest part of the area.
        ratio: smallest and largest width / height.
        fill: value of the paint, 0 to 255; None draws a colour for each
            image.
    """

    draws = 8

    def __init__(
        self,
        prob: float = 0.25,
        scale: tuple[float, float] = (0.02, 1 / 3),
        ratio: tuple[float, float] = (0.3, 10 / 3),
        fill: float | None = 128.0,
    ) -> None:
        self.prob, self.fill = prob, fill
        self.scale, self.ratio = tuple(scale), tuple(ratio)

    def parameters(self, draw: Draw) -> dict[str, Tensor]:
        numbers = draw.numbers
        colour = numbers[:, 5:] * 255
        if self.fill is not None:
            colour = torch.full_like(colour, self.fill)
        return dict(
            random_box(numbers[:, :4], self.scale, self.ratio),
            on=numbers[:, 4] < self.prob,
            colour=colour,
        )

    def apply(self, images: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        inside = box_mask(parameters, tuple(images.shape[-2:]))
        inside *= per_image(parameters['on'])
        colour = parameters['colour'][:, : images.shape[1], None, None]
        return images.lerp_(colour, inside)
