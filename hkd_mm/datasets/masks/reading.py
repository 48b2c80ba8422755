# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Reading masks as class ids."""

import numpy as np
from PIL import Image

from hkd_mm.errors import UserError
from hkd_mm.inference.images import FAILURES, FORMATS, reason, upright
from hkd_mm.inference.stored_images import (
    DEEP,
    from_deep,
    refuse_deep_colour,
)
from hkd_mm.structures.mask_samples import IGNORE

_LOSSY = ('JPEG', 'MPO', 'WEBP')  # nothing tells a lossless WebP
_LOSSY_TIFF = ('jpeg', 'tiff_jpeg', 'webp', 'tiff_sgilog', 'tiff_sgilog24')


def read_mask(path: str, classes: int) -> np.ndarray:
    """Read a mask.

    With two classes every value above 0 is the foreground, in any mode, of a
    palette every colour but black; with more of them values are class ids (or
    indices of a palette) and 255 is ignored.

    Args:
        path: the file, lossless.
        classes: number of classes, background included.

    Returns:
        (H, W) uint8, class ids.

    Raises:
        UserError: unreadable, lossy, a palette without a background, or a
            value that is no class.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            _refuse_lossy(path, image)
            refuse_deep_colour(image)
            if classes == 2 and image.mode == 'P':
                return _coloured(path, upright(image))
            pixels = _mask_pixels(image)
    except FAILURES as error:
        raise UserError(
            f'mask {path} cannot be read ({reason(error, path)}); replace or '
            'remove it'
        ) from None
    if classes == 2:
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        return (pixels > 0).any(-1).astype(np.uint8)
    _check_ids(path, pixels, classes)
    return pixels.astype(np.uint8)


def _refuse_lossy(path: str, image: Image.Image) -> None:
    compression = str(image.info.get('compression', ''))
    if image.format in _LOSSY or compression in _LOSSY_TIFF:
        within = f' with {compression} within' if compression else ''
        raise UserError(
            f'mask {path} is a {image.format} file{within}, whose values are '
            'not exact; masks must be PNG, BMP or lossless TIFF'
        )


def _coloured(path: str, image: Image.Image) -> np.ndarray:
    """Where a palette shows another colour than black, (H, W) uint8.

    Programs order palettes as they like, so that indices say nothing; but
    where not exactly one colour is black, colours say nothing either.
    """
    indices = np.asarray(image)
    colours = np.zeros((256, 3), np.uint8)
    listed = np.array(image.getpalette('RGB'), np.uint8).reshape(-1, 3)
    colours[: len(listed)] = listed
    black = ~colours.any(-1)
    if black[np.union1d(indices, [0])].sum() != 1:
        raise UserError(
            f'mask {path} has a palette in which not exactly one colour is '
            'black, so that the background is not known; save it in grey, '
            'the background as 0'
        )
    return (~black[indices]).astype(np.uint8)


def _mask_pixels(image: Image.Image) -> np.ndarray:
    """Numbers of a mask: (H, W), or (H, W, 3) where it is in colour."""
    image.load()
    image = upright(image)
    if image.mode[0] in DEEP:
        return from_deep(image)
    if image.mode == 'LA':  # opacity says nothing about classes
        image = image.getchannel(0)
    elif image.mode not in ('1', 'L', 'P'):
        image = image.convert('RGB')
    pixels = np.asarray(image)
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def _check_ids(path: str, pixels: np.ndarray, classes: int) -> None:
    if pixels.ndim != 2:
        raise UserError(
            f'mask {path} is in colour; with {classes} classes its values '
            'must be class ids, in one channel'
        )
    wrong = pixels[(pixels >= classes) & (pixels != IGNORE)]
    if wrong.size:
        raise UserError(
            f'mask {path} has the value {wrong[0]}, which is no class: '
            f'values are 0..{classes - 1}, and {IGNORE} to ignore; set '
            'classes=[background,...] accordingly'
        )
