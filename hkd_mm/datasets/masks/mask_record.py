# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One image and its mask, before a split is chosen."""

from dataclasses import dataclass

from ..records import Record

EMPTY, FOREGROUND = 'empty', 'foreground'  # labels, for the split


@dataclass(slots=True)
class MaskRecord(Record):
    """A :class:`hkd_mm.datasets.records.Record` with a mask.

    Args:
        mask_path: the mask file; None where nothing is to be seen.
        grouped_by: what ``lesion_id`` names, ``patient`` or ``lesion``.
    """

    mask_path: str | None = None
    grouped_by: str = 'patient'

    @property
    def group(self) -> str:
        """As ``grouped_by``."""
        return self.grouped_by
