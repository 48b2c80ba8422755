# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One to three of RandAugment's 14 operations."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from hkd_mm.models.arguments import Whole
from hkd_mm.models.preprocessors import affine, color
from hkd_mm.models.preprocessors.augmentation import Draw, Filled, Size, Values, choose
from hkd_mm.registry import TASK_UTILS
from hkd_mm.structures.packed_samples import copy_of

OPERATIONS = tuple(
    'identity autocontrast equalize rotate solarize color posterize contrast '
    'brightness sharpness shear_x shear_y translate_x translate_y'.split()
)
_Number = Annotated[int, Field(ge=0, le=100)]
_UNSIGNED = ('identity', 'autocontrast', 'equalize', 'solarize', 'posterize')


@TASK_UTILS.register_module()
class RandAugment(Filled):
    """A random number of random operations (RandAugment, arXiv:1909.13719).

    The 14 operations are those of DSP-KD (Bioengineering 11:70, 2024, section
    4.1), drawn with replacement, 1 to 3 of them for images of the classes
    that are short of images. Their strengths are torchvision's: shear 0.3,
    translation 150 / 331 of the side, turn 30 degrees, tones 0.9, 4 bits and
    threshold 0 at ``magnitude`` 30, with a random sign where there is one.
    """

    host = ('operation',)
    moves = True
    later = ('copies_only',)

    count: tuple[_Number, _Number] = (1, 3)  # smallest and largest number of operations
    magnitude: Annotated[float, Field(ge=0, le=30)] = 9.0  # strength of all operations
    # indices of the classes that are augmented; None for all
    classes: list[Whole] | None = None
    # augment the copies that ``packed.top_up`` adds, and not the images themselves, as
    # DSP-KD does
    copies_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.count
        self.require(low <= high, 'count', self.count, 'two rising numbers')
        self.draws = 1 + 2 * high

    def parameters(self, draw: Draw) -> Values:
        """``operation`` (B, highest count): positions in ``OPERATIONS``, 0
        (identity) beyond a sample's own count; ``sign`` likewise.
        """
        low, high = self.count
        count = low + (draw.numbers[:, 0] * (high - low + 1)).long()
        if self.classes is not None and draw.labels is not None:
            labels = draw.labels.to(count.device)
            chosen = torch.tensor(self.classes, device=count.device)
            count = count * torch.isin(labels, chosen)
        if self.copies_only and draw.index is not None:
            count = count * (copy_of(draw.index) > 0)
        operation, sign = draw.numbers[:, 1:].split(high, dim=1)
        operation = (operation * len(OPERATIONS)).long()
        step = torch.arange(high, device=count.device)
        return dict(
            operation=operation * (step < count[:, None]),
            sign=1 - 2 * (sign < 0.5).float(),
        )

    def apply(self, images: Tensor, parameters: Values) -> Tensor:
        for step in range(self.count[1]):
            drawn = parameters['operation'][:, step]
            sign = parameters['sign'][:, step]
            for number in _present(drawn):
                function = partial(self._perform, OPERATIONS[number])
                images = _where(drawn == number, function, images, sign)
        return images

    def _perform(self, name: str, images: Tensor, sign: Tensor) -> Tensor:
        sign = torch.ones_like(sign) if name in _UNSIGNED else sign
        return perform(images, name, self.magnitude / 30 * sign, self.outside)


def perform(
    images: Tensor, name: str, strength: Tensor, outside: tuple[float, str]
) -> Tensor:
    """One of the operations on float32 images (B, 3, H, W) in [0, 255], maybe in place.

    ``strength`` (B,) is a part of the strongest, in [-1, 1]; ``outside`` (fill,
    padding) of :func:`.affine.warp`.
    """
    if name in _TONES:
        kinds = (torch.full_like(strength, name == k) for k in ('contrast', 'color'))
        return color.adjust_tone(images, 1 + 0.9 * strength, *kinds)
    if name in _LEVELS:
        return _LEVELS[name](images, strength)
    size = tuple(images.shape[-2:])
    return affine.warp(images, _map(name, strength, size), size, *outside)


_TONES = ('brightness', 'contrast', 'color')
_LEVELS = dict(
    identity=lambda images, _: images,
    autocontrast=lambda images, _: color.autocontrast(images),
    equalize=lambda images, _: color.equalize(images),
    posterize=lambda images, s: color.posterize(images, 8 - (4 * s).round()),
    solarize=lambda images, s: color.solarize(images, 255 * (1 - s)),
    sharpness=lambda images, s: color.sharpen(images, 1 + 0.9 * s),
)


def _map(name: str, strength: Tensor, size: Size) -> Tensor:
    """Affine map of a turn, shear or translation.

    A shear keeps the first row or column of pixels where it is.
    """
    one, (height, width) = torch.ones_like(strength), size
    shear, shift = 0.3 * strength, -150 / 331 * strength
    if name == 'rotate':
        return affine.turn(30 * strength)
    if name == 'shear_x':
        return affine.matrix(one, one, xy=shear, x0=shear * height / 2)
    if name == 'shear_y':
        return affine.matrix(one, one, yx=shear, y0=shear * width / 2)
    if name == 'translate_x':
        return affine.matrix(one, one, x0=shift * width)
    return affine.matrix(one, one, y0=shift * height)


def _present(drawn: Tensor) -> list[int]:
    """The operations but identity to look at; all where it is unknown."""
    if drawn.device.type != 'cpu':
        return list(range(1, len(OPERATIONS)))
    return sorted(set(drawn.numpy().tolist()) - {0})


def _where(
    mask: Tensor,
    function: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    values: Tensor,
) -> Tensor:
    """Change the marked images; with a mask in host memory only these are computed.

    Nothing is ever fetched from a device.
    """
    if mask.device.type != 'cpu':
        return choose(mask, function(images.clone(), values), images)
    rows = mask.numpy().nonzero()[0]
    if not len(rows):
        return images
    rows = torch.from_numpy(rows).to(images.device, non_blocking=True)
    return images.index_copy_(0, rows, function(images[rows], values[rows]))
