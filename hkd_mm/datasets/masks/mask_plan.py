# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a packed store of images and masks is to hold."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from ..packed.file_stats import stats
from ..packed.plan import Plan, check_pixels
from .mask_record import MaskRecord
from .pixels import VERSION, decode_pair


@dataclass(frozen=True)
class MaskPlan(Plan):
    """The rows of a store, each an image and its mask.

    Args:
        masks: paths as ``files``; None where nothing is to be seen.
        mask_sizes: of the mask files, in bytes.
        mask_times: when they were last written, in nanoseconds.
        channels: of the images, 1 or 3.
        bits: of a channel, 8 or 16.
        classes: number of them, background included.
    """

    columns: ClassVar[tuple[str, ...]] = (
        *Plan.columns,
        'masks',
        'mask_sizes',
        'mask_times',
    )

    masks: tuple[str | None, ...] = ()
    mask_sizes: tuple[int | None, ...] = ()
    mask_times: tuple[int | None, ...] = ()
    channels: int = 3
    bits: int = 8
    classes: int = 2

    @property
    def rule(self) -> dict:
        kind = dict(
            version=VERSION,
            channels=self.channels,
            bits=self.bits,
            classes=self.classes,
        )
        return dict(super().rule, masks=kind)

    @property
    def family(self) -> str:
        return (
            f'{super().family}_masks{self.classes}_{self.channels}x{self.bits}'
        )

    def sources(self, row: int) -> tuple[str, str | None]:
        """Image and mask file of a row."""
        mask = self.masks[row]
        return self.path(row), mask and os.path.join(self.root, mask)

    def worker(self, folder: Path) -> Callable:
        return partial(decode_pair, folder, len(self.ids), self.rule)


def make_mask_plan(
    data_root: str,
    records: Sequence[MaskRecord],
    side: int,
    channels: int,
    bits: int,
    classes: int,
    interpolation: str = 'area',
) -> MaskPlan:
    """Look at the files of all images and masks of a data root.

    Args:
        data_root: as of the data set.
        records: of all splits, in any order.
        side: pixels a side.
        channels: see :class:`MaskPlan`.
        bits: see :class:`MaskPlan`.
        classes: see :class:`MaskPlan`.
        interpolation: of the images, see :class:`Plan`.

    Raises:
        UserError: a bad side or interpolation, or a file is not there.
    """
    check_pixels(side, interpolation)
    root = os.path.abspath(os.path.expanduser(data_root))
    ordered = sorted(records, key=lambda record: record.sample_id)
    found = stats([record.path for record in ordered], root) + stats(
        [record.mask_path for record in ordered], root
    )
    return MaskPlan(
        root=root,
        side=side,
        interpolation=interpolation,
        ids=tuple(record.sample_id for record in ordered),
        channels=channels,
        bits=bits,
        classes=classes,
        **dict(zip(MaskPlan.columns, found)),
    )
