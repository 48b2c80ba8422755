# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images with masks in a packed store, gathered batch by batch."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from hkd_mm.datasets.masks.mask_dataset import MaskDataset
from hkd_mm.datasets.masks.reading import extents, read_mask
from hkd_mm.datasets.packed.packed_dataset import Batch, PackedDataset
from hkd_mm.datasets.packed.plan import Plan, file_states, plan_rows
from hkd_mm.datasets.packed.store import PackedStore
from hkd_mm.errors import UserError
from hkd_mm.io.images import read_stored
from hkd_mm.registry import DATASETS
from hkd_mm.structures.mask_samples import IGNORE

VERSION = 2  # of the stored pixels
_DTYPES = {8: np.dtype('u1'), 16: np.dtype('<u2')}


@DATASETS.register_module()
class PackedMasks(PackedDataset):
    """Batches of a ``MaskDataset``, decoded and resized once.

    Images are resized by area, masks by the share of each class, see
    :func:`resize_mask`: marks smaller than half a pixel of the result are
    lost. 16 bits stay 16 bits.

    A batch is a dict of ``inputs`` (B, side, side, C) uint8 or uint16, ``masks`` (B,
    side, side) uint8, class ids with 255 for ignored pixels, ``labels`` (B,) int64, 1
    where the mask marks anything, and ``index`` (B,) int64, the row in the store.

    Raises:
        UserError: as of :class:`PackedDataset`, or a mask and its image differ in size.
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
        masks = (unpack(self.store, r, True)[1] for r in self.rows.split(1024))
        marked = [((m > 0) & (m != IGNORE)).flatten(1).any(1) for m in masks]
        self.labels = torch.cat(marked).long()

    def _plan(self) -> 'MaskPlan':
        inner = self.dataset
        if not isinstance(inner, MaskDataset):
            raise UserError(
                'PackedMasks packs MaskDataset, LIDCNodule and '
                f'SkinLesionMasks, not {type(inner).__name__}'
            )
        records = inner.records()
        side = round(self.size * self.margin)
        rows = plan_rows(inner.data_root, records, side, self.interpolation)
        paths = {record.sample_id: record.mask_path for record in records}
        states = file_states([paths[name] for name in rows['ids']], rows['root'])
        masks = dict(zip(('masks', 'mask_sizes', 'mask_times'), states))
        kind = dict(channels=inner.channels, bits=inner.bits)
        return MaskPlan(**rows, **masks, **kind, classes=len(inner.classes))

    @property
    def masks_lost_by_resize(self) -> torch.Tensor:
        """Images whose mask marks something that its stored size does not.

        (N,) bool. Images that the table calls not clean count as marked.
        """
        marked = torch.from_numpy(np.asarray(self.dataset.get_gt_labels()))
        return (marked > 0) & (self.labels == 0)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
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

        Checkpoints keep that of the training part and must not hold patients.
        """
        if self.split == 'train':
            return super().metainfo
        return self.tested_metainfo

    @property
    def tested_metainfo(self) -> dict[str, Any]:
        """Metadata for ``hkd_mm.SegmentationMetric``, of any part.

        Beside that of :class:`PackedDataset` ``groups``, sample id ->
        patient, and ``extents``, sample id -> height and width of the image
        in mm, where the table has ``pixel_spacing`` (mm from pixel to pixel).
        """
        infos = (self.get_data_info(i) for i in range(len(self)))
        pairs = ((info['sample_id'], info['patient_id']) for info in infos)
        groups = {name: patient for name, patient in pairs if patient is not None}
        return dict(super().metainfo, groups=groups, extents=self._extents)

    @cached_property
    def _extents(self) -> dict[str, tuple[float, float]]:
        return extents([self.get_data_info(i) for i in range(len(self))])

    def class_counts(self) -> np.ndarray:
        """Images whose stored mask is empty, and others, (2,) int64."""
        return np.bincount(self.labels.numpy(), minlength=2)


@dataclass(frozen=True)
class MaskPlan(Plan):
    """The rows of a store, each an image and its mask; None for an empty mask."""

    columns: ClassVar = (*Plan.columns, 'masks', 'mask_sizes', 'mask_times')

    masks: tuple[str | None, ...] = ()
    mask_sizes: tuple[int | None, ...] = ()
    mask_times: tuple[int | None, ...] = ()
    channels: int = 3
    bits: int = 8
    classes: int = 2

    @property
    def rule(self) -> dict:
        kind = dict(channels=self.channels, bits=self.bits, classes=self.classes)
        return dict(super().rule, masks=dict(version=VERSION, **kind))

    @property
    def family(self) -> str:
        return f'{super().family}_masks{self.classes}_{self.channels}x{self.bits}'

    def sources(self, row: int) -> tuple[str, str | None]:
        mask = self.masks[row]
        return super().sources(row), mask and os.path.join(self.root, mask)

    @property
    def reader(self) -> Callable[[tuple[str, str | None]], bytes]:
        return partial(_pair_bytes, self.rule)


def _pair_bytes(rule: dict, files: tuple[str, str | None]) -> bytes:
    return b''.join(part.tobytes() for part in pack_pair(*files, rule))


def pack_pair(
    path: str, mask_path: str | None, rule: dict
) -> tuple[np.ndarray, np.ndarray]:
    """Read and resize an image and its mask, by the rule of a plan.

    Returns:
        (side, side, channels) uint8 or uint16, and (side, side) uint8.
    """
    from mmcv import imresize

    kind, side = rule['masks'], rule['side']
    image = read_stored(path, kind['channels'], kind['bits'])
    mask = np.zeros((side, side), np.uint8)
    if mask_path is not None:
        found = read_mask(mask_path, kind['classes'])
        if found.shape != image.shape[:2]:
            (high, wide), (tall, broad) = image.shape[:2], found.shape
            raise UserError(
                f'image {path} has {wide} x {high} pixels and its mask '
                f'{mask_path} {broad} x {tall}; they must be of one size'
            )
        mask = resize_mask(found, side, kind['classes'])
    how = dict(interpolation=rule['interpolation'], backend='cv2')
    image = imresize(image, (side, side), **how)
    dtype = _DTYPES[kind['bits']]
    assert image.dtype.itemsize == dtype.itemsize, 'the depth is kept'
    image = image.reshape(side, side, kind['channels']).astype(dtype)
    return np.ascontiguousarray(image), mask


def resize_mask(mask: np.ndarray, side: int, classes: int) -> np.ndarray:
    """Resize (H, W) uint8 class ids to (side, side), by the shares in a new pixel.

    The largest share wins (of equal ones the smaller id); with two classes
    half is enough for the foreground. Ignored pixels count as a class.
    """
    if mask.shape == (side, side):
        return mask
    if classes == 2:
        share = _area((mask == 1).astype(np.float32), side)
        return (share >= 0.5 - 1e-6).astype(np.uint8)
    ids = [*range(classes), IGNORE]
    shares = np.stack([_area(np.float32(mask == i), side) for i in ids])
    return np.array(ids, np.uint8)[shares.argmax(0)]


def unpack(
    store: PackedStore, rows: Tensor, masks_only: bool = False
) -> tuple[Tensor | None, Tensor]:
    """Images (B, side, side, C) and masks (B, side, side) of some rows."""
    kind, side = store.header['masks'], store.side
    dtype = _DTYPES[kind['bits']]
    size = side * side * kind['channels'] * dtype.itemsize
    masks = store.gather_bytes(rows, slice(size, None))
    masks = torch.from_numpy(masks).view(-1, side, side)
    if masks_only:
        return None, masks
    images = store.gather_bytes(rows, slice(size)).view(dtype)
    shape = (-1, side, side, kind['channels'])
    return torch.from_numpy(images).view(shape), masks


def _area(plane: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA)
