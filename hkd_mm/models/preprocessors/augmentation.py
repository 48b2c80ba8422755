# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What every batched augmentation is: parameters first, then pixels."""

import math
from dataclasses import field
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from hkd_mm.models.arguments import Arguments, Fraction, Positive

Values = dict[str, Tensor]  # parameter -> (B, ...)
Size = tuple[int, int]  # height, width
Level = Annotated[float, Field(ge=0, le=255)]
Fractions = tuple[Fraction, Fraction]
Ratios = tuple[Positive, Positive]  # width / height


class Draw(NamedTuple):
    """What the parameters of one operation are computed from."""

    numbers: Tensor  # uniform in [0, 1), float32 (B, draws of the operation)
    labels: Tensor | None  # classes (B,), int64; None where not known
    seed: int  # of the augmentation
    view: int
    name: str  # of the operation, unique in its list
    index: Tensor | None = None  # sample ids (B,); None where irrelevant


class Augmentation(Arguments):
    """A random change of images, each sample with parameters of its own.

    Subclasses are registered in ``TASK_UTILS``. Images are float32
    (B, C, H, W), RGB or grey, in [0, 255]; they may be changed in place.
    Nothing is rounded between operations.
    """

    # uniform numbers that one sample needs
    draws: ClassVar[int] = 0
    # a flip or quarter turn before is the same as after, same parameters
    commutes: ClassVar[bool] = False
    # parameters that stay on the device of the sample ids
    host: ClassVar[tuple[str, ...]] = ()
    # what becomes of a sample depends on the batch it is in
    mixes: ClassVar[bool] = False
    # moves pixels in a way that a mask cannot follow
    moves: ClassVar[bool] = False
    # arguments of a later version; at their defaults the fingerprint leaves
    # them out, so that old caches stay good
    later: ClassVar[tuple[str, ...]] = ()

    def parameters(self, draw: Draw) -> Values:
        """Parameters of each sample: name -> tensor (B, ...)."""
        raise NotImplementedError

    def apply(self, images: Tensor, parameters: Values) -> Tensor:
        """Change a batch (B, C, H, W), see the class; the shape stays.

        ``parameters`` are what :meth:`parameters` returned, on the images' device.
        """
        raise NotImplementedError


class Filled(Augmentation):
    """An augmentation that shows what lies outside of the image."""

    # value there. mmpretrain's ``Rotate`` fills with 128, torchvision's
    # ``RandomRotation`` with 0
    fill: Level = field(default=128.0, kw_only=True)
    # ``'constant'`` to fill; ``'border'`` repeats and ``'reflection'`` mirrors the
    # edge. Neighbours with the same are interpolated together
    padding: Literal['constant', 'border', 'reflection'] = field(
        default='constant', kw_only=True
    )

    @property
    def outside(self) -> tuple[float, str]:
        """(fill, padding) of :func:`.affine.warp`."""
        return (self.fill if self.padding == 'constant' else 0.0), self.padding


def between(low: float, high: float, numbers: Tensor) -> Tensor:
    """Numbers in [0, 1) stretched to [low, high)."""
    return numbers * (high - low) + low


def per_image(values: Tensor) -> Tensor:
    """Values (B,) in a shape that meets images (B, 3, H, W)."""
    return values.view(-1, 1, 1, 1)


def choose(mask: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    """``changed`` where ``mask`` (B,) is set, else ``images``.

    Bit by bit for uint8 and float32: ``torch.where`` is many times slower on a CPU.
    """
    kind = torch.uint8 if images.dtype == torch.uint8 else torch.int32
    bits = images.view(kind)
    mask = per_image(-mask.to(torch.int8)).to(kind)
    found = (bits ^ changed.view(kind)).bitwise_and_(mask).bitwise_xor_(bits)
    return found.view(images.dtype)


def random_box(
    numbers: Tensor, scale: tuple[float, float], ratio: tuple[float, float]
) -> Values:
    """A box without its image: four uniform numbers (B, 4) -> four (B,).

    Returns:
        ``area`` as a part of the image, ``ratio`` = width / height, ``top``
        and ``left`` in [0, 1) from one end of the free room to the other.
    """
    return dict(
        area=between(*scale, numbers[:, 0]),
        ratio=torch.exp(between(*map(math.log, ratio), numbers[:, 1])),
        top=numbers[:, 2],
        left=numbers[:, 3],
    )


def box_in_pixels(
    parameters: Values, source: Size
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whole-numbered (top, left, height, width), each float32 (B,)."""
    height, width = source
    area = parameters['area'] * (height * width)
    tall = (area / parameters['ratio']).sqrt_().round_().clamp_(1, height)
    wide = (area * parameters['ratio']).sqrt_().round_().clamp_(1, width)
    top = (parameters['top'] * (height - tall + 1)).floor_()
    left = (parameters['left'] * (width - wide + 1)).floor_()
    return top, left, tall, wide


def box_mask(parameters: Values, size: Size) -> Tensor:
    """1 in the boxes of ``random_box``, 0 outside: float32 (B, 1, H, W)."""
    top, left, height, width = map(per_image, box_in_pixels(parameters, size))
    row = torch.arange(size[0], device=top.device).view(1, 1, -1, 1)
    column = torch.arange(size[1], device=top.device).view(1, 1, 1, -1)
    rows = (row >= top) & (row < top + height)
    columns = (column >= left) & (column < left + width)
    return rows.float() * columns.float()
