# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A split of images with masks as batches gathered from a packed store."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from hkd_mm.errors import UserError
from hkd_mm.registry import DATASETS
from hkd_mm.structures.mask_samples import IGNORE

from ..packed.builder import ensure_store
from ..packed.packed_dataset import Batch, PackedDataset
from ..packed.store import PackedStore, open_store
from .extents import extents
from .mask_dataset import MaskDataset
from .mask_plan import make_mask_plan
from .pixels import unpack

_AT_ONCE = 1024  # masks that are looked at together


@DATASETS.register_module()
class PackedMasks(PackedDataset):
    """One of our data sets with masks, decoded and resized once.

    Images are resized by area, masks by the share of each class, see
    :func:`.pixels.resize_mask`: what is smaller than half a pixel of the
    result is gone. 16 bits stay 16 bits.

    A batch is a dict of ``inputs`` (B, side, side, C) uint8 or uint16,
    ``masks`` (B, side, side) uint8, class ids with 255 for ignored pixels,
    ``labels`` (B,) int64, 1 where the mask marks anything, and ``index``
    (B,) int64, the row in the store. Loaders take it with
    ``collate_fn=dict(type='hkd_mm.packed_collate')``.

    Args:
        dataset: config of the inner data set, or the data set.
        size: see :class:`PackedDataset`, as all that follow.
        margin: see there.
        store_dir: see there.
        interpolation: of the images, see there.
        in_memory: see there.
        verify: see there.

    Attributes:
        labels: whether anything is marked in the stored mask, (N,) int64.

    Raises:
        UserError: as of :class:`PackedDataset`, or a mask and its image
            differ in size.
    """

    def __init__(
        self,
        dataset: dict | MaskDataset,
        size: int = 128,
        margin: float = 1.0,
        store_dir: str = 'work_dirs/packed',
        interpolation: str = 'area',
        in_memory: bool = False,
        verify: str = 'all',
    ) -> None:
        super().__init__(
            dataset, size, margin, store_dir, interpolation, in_memory, verify
        )
        self.labels = torch.cat(
            [self._marked(part) for part in self.rows.split(_AT_ONCE)]
        )

    def _open(self) -> PackedStore:
        inner = self.dataset
        if not isinstance(inner, MaskDataset):
            raise UserError(
                'PackedMasks packs MaskDataset, LIDCNodule and '
                f'SkinLesionMasks, not {type(inner).__name__}'
            )
        inner.full_init()
        plan = make_mask_plan(
            inner.data_root,
            inner.records(),
            round(self.size * self.margin),
            inner.channels,
            inner.bits,
            len(inner.classes),
            self.interpolation,
        )
        folder = ensure_store(plan, self.store_dir)
        return open_store(folder, self.verify, self.in_memory, plan)

    def _marked(self, rows: torch.Tensor) -> torch.Tensor:
        masks = unpack(self.store, rows, masks_only=True)[1]
        return ((masks > 0) & (masks != IGNORE)).flatten(1).any(1).long()

    @property
    def vanished(self) -> torch.Tensor:
        """Where a mask marks something that its stored size does not show.

        (N,) bool. Images that the table calls not clean count as marked.
        """
        marked = torch.from_numpy(np.asarray(self.dataset.get_gt_labels()))
        return (marked > 0) & (self.labels == 0)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """One batch, see the class.

        Args:
            indices: B positions in the split.
        """
        chosen = torch.as_tensor(indices)
        images, masks = unpack(self.store, self.rows[chosen])
        return dict(
            inputs=images,
            masks=masks,
            labels=self.labels[chosen],
            index=self.index[chosen],
        )

    @property
    def metainfo(self) -> dict[str, Any]:
        """That of :class:`PackedDataset` and, outside of training, patients.

        Checkpoints keep what the training part says, and patients have no
        place there; who tests on it takes :attr:`tested_metainfo`.
        """
        if self.split == 'train':
            return super().metainfo
        return self.tested_metainfo

    @property
    def tested_metainfo(self) -> dict[str, Any]:
        """What ``hkd_mm.SegmentationMetric`` asks for, of any part.

        Beside that of :class:`PackedDataset` ``groups``, sample id ->
        patient, and ``extents``, sample id -> height and width of what is
        shown in mm, where the table has ``pixel_spacing`` (mm from pixel to
        pixel).
        """
        infos = (self.get_data_info(i) for i in range(len(self)))
        groups = {
            info['sample_id']: info['patient_id']
            for info in infos
            if info['patient_id'] is not None
        }
        return dict(super().metainfo, groups=groups, extents=self._extents)

    @cached_property
    def _extents(self) -> dict[str, tuple[float, float]]:
        return extents([self.get_data_info(i) for i in range(len(self))])

    def class_counts(self) -> np.ndarray:
        """Images whose stored mask is empty, and others, (2,) int64."""
        return np.bincount(self.labels.numpy(), minlength=2)
