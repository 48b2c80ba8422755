# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One row of a store: the bytes of an image, then those of its mask."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.inference.stored_images import read_stored
from hkd_mm.structures.mask_samples import IGNORE

from ..packed.parts import put_row
from ..packed.store import PackedStore
from .reading import read_mask

VERSION = 2  # of what becomes of the pixels
_DTYPES = {8: np.dtype('u1'), 16: np.dtype('<u2')}


def decode_pair(
    folder: Path,
    count: int,
    rule: dict,
    job: tuple[int, tuple[str, str | None]],
) -> str | None:
    """Pack one (row, files); a message when a file cannot be used.

    Args:
        folder: of the store.
        count: rows of the store.
        rule: of the :class:`.mask_plan.MaskPlan`.
        job: the row, and its image and mask file.
    """
    row, (path, mask_path) = job
    try:
        image, mask = pack_pair(path, mask_path, rule)
    except UserError as error:
        return str(error)
    put_row(folder, count, row, image.tobytes() + mask.tobytes())
    return None


def pack_pair(
    path: str, mask_path: str | None, rule: dict
) -> tuple[np.ndarray, np.ndarray]:
    """Read and resize an image and its mask.

    Args:
        path: the image file.
        mask_path: the mask file; None for an empty mask.
        rule: of the :class:`.mask_plan.MaskPlan`.

    Returns:
        (side, side, channels) uint8 or uint16, and (side, side) uint8.

    Raises:
        UserError: a file cannot be read, or the two differ in size.
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
    image = imresize(
        image, (side, side), interpolation=rule['interpolation'], backend='cv2'
    )
    dtype = _DTYPES[kind['bits']]
    assert image.dtype.itemsize == dtype.itemsize, 'the depth is kept'
    image = image.reshape(side, side, kind['channels']).astype(dtype)
    return np.ascontiguousarray(image), mask


def resize_mask(mask: np.ndarray, side: int, classes: int) -> np.ndarray:
    """Resize by the share of each class in what becomes a pixel.

    The largest share wins (of equal ones the smaller id); with two classes
    half is enough for the foreground. Ignored pixels count as a class.

    Args:
        mask: (H, W) uint8, class ids.
        side: pixels a side.
        classes: number of them, background included.

    Returns:
        (side, side) uint8.
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
    """Images (B, side, side, C) and masks (B, side, side) of some rows.

    Args:
        store: of a :class:`.mask_plan.MaskPlan`.
        rows: (B,) int64.
        masks_only: None in place of the images.
    """
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
