# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Brightness, contrast, saturation and hue in random order."""

import hashlib
from itertools import permutations

import torch
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.registry import TASK_UTILS

from .augmentation import Augmentation, Draw, between
from .colour import adjust_tone, shift_hue


@TASK_UTILS.register_module()
class ColorJitter(Augmentation):
    """Random brightness, contrast, saturation and hue.

    As mmpretrain's and torchvision's ``ColorJitter``: factors uniform in
    [max(0, 1 - x), 1 + x], hue uniform in [-hue, hue] turns, the four applied
    in an order that is uniform over all 24. The order of the first three is
    each sample's own; the place of the hue among them, the one costly
    operation, is drawn once a view for all samples, so that it is computed
    once and not four times. Grey images have no saturation and hue.

    Args:
        brightness: >= 0.
        contrast: >= 0.
        saturation: >= 0.
        hue: in [0, 0.5].
        prob: of a change, in [0, 1].
    """

    commutes = True
    draws = 6

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        prob: float = 1.0,
    ) -> None:
        self.amounts = (brightness, contrast, saturation)
        self.hue, self.prob = hue, prob
        self.orders = list(
            permutations(tone for tone in range(3) if self.amounts[tone])
        )
        if min(self.amounts) < 0 or not 0 <= hue <= 0.5:
            raise UserError(
                f'hkd_mm.ColorJitter: {self.amounts} must be >= 0 and '
                f'hue={hue} in [0, 0.5]'
            )

    def parameters(self, draw: Draw) -> dict[str, Tensor]:
        """``factors`` (B, 3) of brightness, contrast and saturation,
        ``order`` (B, n) of the n that are used, ``hue`` (B,) and
        ``hue_place``: how many of the n come before it (one number).
        """
        numbers = draw.numbers
        on = (numbers[:, 5] < self.prob).float()
        amounts = numbers.new_tensor(self.amounts)
        low, high = (1 - amounts).clamp_(min=0), 1 + amounts
        factors = numbers[:, :3] * (high - low) + low
        orders = torch.tensor(
            self.orders, dtype=torch.int64, device=numbers.device
        )
        key = f'{draw.seed}/{draw.view}/{draw.name}'.encode()
        return dict(
            factors=torch.lerp(torch.ones_like(factors), factors, on[:, None]),
            order=orders[(numbers[:, 4] * len(orders)).to(torch.int64)],
            hue=between(-self.hue, self.hue, numbers[:, 3]) * on,
            hue_place=(
                hashlib.sha256(key).digest()[0] % (orders.shape[1] + 1)
            ),
        )

    def apply(self, images: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        order = parameters['order']
        factors = parameters['factors'].gather(1, order)
        contrast, saturation = (order == 1).float(), (order == 2).float()
        count = order.shape[1]
        for place in range(count + 1):
            coloured = images.shape[1] > 1
            if self.hue and coloured and place == parameters['hue_place']:
                images = shift_hue(
                    images, parameters['hue'], far=self.hue > 1 / 6
                )
            if place < count:
                images = adjust_tone(
                    images,
                    factors[:, place],
                    contrast[:, place],
                    saturation[:, place],
                )
        return images
