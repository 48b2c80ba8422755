# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What every batched augmentation is: parameters first, then pixels."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor


class Draw(NamedTuple):
    """What the parameters of one operation are computed from.

    Attributes:
        numbers: uniform in [0, 1), float32 (B, draws of the operation).
        labels: classes (B,), int64, or None where they are not known.
        seed: of the run.
        view: number of the view.
        name: of the operation, unique in its list.
        index: ids of the samples (B,), int64, see
            :mod:`hkd_mm.structures.sample_ids`; None where they do not matter.
    """

    numbers: Tensor
    labels: Tensor | None
    seed: int
    view: int
    name: str
    index: Tensor | None = None


class Augmentation:
    """A random change of images, each sample with parameters of its own.

    Subclasses are registered in ``TASK_UTILS``. Images are float32
    (B, C, H, W), RGB or grey, in [0, 255]; they may be changed in place.
    Nothing is rounded between operations.

    Attributes:
        draws: uniform numbers that one sample needs.
        commutes: a flip or quarter turn before the operation gives the
            same as after it, with the same parameters.
        host: parameters that stay on the device of the sample ids.
        mixes: samples of one batch see each other: what becomes of a sample
            depends on the batch it stands in.
        moves: moves pixels in a way that a mask cannot follow.
        later: arguments that a later version added; the fingerprint says
            nothing of them at their defaults, and old caches stay good.
    """

    draws: ClassVar[int] = 0
    commutes: ClassVar[bool] = False
    host: ClassVar[tuple[str, ...]] = ()
    mixes: ClassVar[bool] = False
    moves: ClassVar[bool] = False
    later: ClassVar[tuple[str, ...]] = ()

    def parameters(self, draw: Draw) -> dict[str, Tensor]:
        """Parameters of each sample: name -> tensor (B, ...)."""
        raise NotImplementedError

    def apply(self, images: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Change a batch.

        Args:
            images: (B, 3, H, W), see the class.
            parameters: what :meth:`parameters` returned, on the device of
                the images.

        Returns:
            Images of the same shape.
        """
        raise NotImplementedError


def between(low: float, high: float, numbers: Tensor) -> Tensor:
    """Numbers in [0, 1) stretched to [low, high)."""
    return numbers * (high - low) + low


def per_image(values: Tensor) -> Tensor:
    """Values (B,) in a shape that meets images (B, 3, H, W)."""
    return values.view(-1, 1, 1, 1)


def choose(mask: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    """``changed`` where ``mask`` (B,) is set, else ``images``.

    Bit by bit for uint8 and float32: ``torch.where`` is many times slower on
    a CPU.
    """
    kind = torch.uint8 if images.dtype == torch.uint8 else torch.int32
    bits = images.view(kind)
    mask = per_image(-mask.to(torch.int8)).to(kind)
    found = (bits ^ changed.view(kind)).bitwise_and_(mask).bitwise_xor_(bits)
    return found.view(images.dtype)
