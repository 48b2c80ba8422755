# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Numbers of a symmetric Beta distribution from uniform ones."""

import numpy as np
import torch
from torch import Tensor

_KNOTS = 4096


class SymmetricBeta:
    """The quantile function of Beta(alpha, alpha), tabulated.

    Below the median it is interpolated in ``t = x ** alpha``, of which the
    distribution function is smooth and nearly linear even where the density
    has a pole; above, by symmetry.

    Args:
        alpha: > 0.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        t = np.linspace(0, 0.5**alpha, 8 * _KNOTS)
        density = (1 - t ** (1 / alpha)) ** (alpha - 1)
        area = np.concatenate(
            [[0], np.cumsum((density[1:] + density[:-1]) / 2)]
        )
        levels = np.linspace(0, area[-1], _KNOTS)
        self.table = torch.from_numpy(np.interp(levels, area, t)).to(
            torch.float32
        )

    def __call__(self, numbers: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) -> numbers in [0, 1], same shape."""
        level = (1 - (2 * numbers - 1).abs()) * (_KNOTS - 1)
        low = level.floor().clamp_(max=_KNOTS - 2)
        table = self.table.to(numbers.device)
        position = low.to(torch.int64)
        t = torch.lerp(table[position], table[position + 1], level - low)
        x = t ** (1 / self.alpha)
        return torch.where(numbers < 0.5, x, 1 - x)
