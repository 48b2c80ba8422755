# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How large in millimetres the pixels are that are compared."""

from collections.abc import Callable, Sequence
from numbers import Real

from torch import Tensor

from hkd_mm.errors import UserError

Pair = tuple[float, float]


class PixelSizes:
    """Heights and widths of pixels, from whoever knows them.

    Args:
        spacing: of every pixel in mm, one number or two; None asks the data
            set, for ``spacing``, or ``extents``: sample id -> height and
            width of the whole image.

    Raises:
        UserError: not one or two lengths.
    """

    def __init__(self, spacing: float | Sequence[float] | None) -> None:
        self._given = spacing_pair(spacing)

    def known(self, meta: dict | None) -> bool:
        """Whether distances are in mm."""
        return bool(self._common(meta) or (meta or {}).get('extents'))

    def of_slices(
        self,
        meta: dict | None,
        index: Tensor,
        names: Callable[[dict | None, Tensor], list[str | None]],
        shape: tuple[int, int],
    ) -> list[Pair]:
        """Of a batch of masks of one shape; (1, 1) where nobody knows.

        Args:
            meta: of the data set.
            index: (B,) rows in the packed store.
            names: a :class:`.store_names.StoreNames`.
            shape: of a mask.
        """
        common = self._common(meta)
        extents = (meta or {}).get('extents')
        if common or not extents:
            return [common or (1.0, 1.0)] * len(index)
        high, wide = shape
        found = map(extents.get, names(meta, index))
        return [(height / high, width / wide) for height, width in found]

    def _common(self, meta: dict | None) -> Pair | None:
        return self._given or spacing_pair((meta or {}).get('spacing'))


def spacing_pair(
    spacing: float | Sequence[float] | None,
) -> tuple[float, float] | None:
    """Height and width of a pixel, of one number or two.

    Raises:
        UserError: it is neither, or not above 0.
    """
    if spacing is None:
        return None
    pair = (spacing, spacing) if isinstance(spacing, Real) else tuple(spacing)
    numbers = all(type(side) in (int, float) and side > 0 for side in pair)
    if len(pair) != 2 or not numbers:
        raise UserError(
            f'SegmentationMetric: spacing={spacing} must be the height and '
            'width of a pixel in mm, both > 0, or one number'
        )
    return pair
