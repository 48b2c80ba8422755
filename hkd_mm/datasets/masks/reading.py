# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Reading images at their own depth, and masks as class ids."""

import cv2
import numpy as np
from PIL import Image, ImageOps

from hkd_mm.errors import UserError
from hkd_mm.inference.images import FAILURES, FORMATS, decode, reason
from hkd_mm.structures.mask_samples import IGNORE

_DEEP = ('I', 'F')  # first letters of modes with more than 8 bits
_LOSSY = ('JPEG', 'MPO')


def read_image(path: str, channels: int, bits: int) -> np.ndarray:
    """Read an image without a change of its depth.

    Args:
        path: the file.
        channels: 3 for RGB, 1 for grey (of 8-bit colours the luma).
        bits: 8 or 16; 16 bits have one channel.

    Returns:
        (H, W) or (H, W, 3) of uint8 or uint16.

    Raises:
        UserError: unreadable, or of another depth.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            deep = image.mode[0] in _DEEP
            if deep != (bits == 16):
                _refuse_depth(path, image.mode, bits)
            if bits == 16:
                return _from_deep(image)
            rgb = decode(image)
    except FAILURES as error:
        raise _unreadable('image', path, error) from None
    return rgb if channels == 3 else cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def read_mask(path: str, classes: int) -> np.ndarray:
    """Read a mask.

    With two classes every value above 0 is the foreground, in any mode; with
    more of them values are class ids (or indices of a palette) and 255 is
    ignored.

    Args:
        path: the file, lossless.
        classes: number of classes, background included.

    Returns:
        (H, W) uint8, class ids.

    Raises:
        UserError: unreadable, lossy, or a value that is no class.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.format in _LOSSY:
                raise UserError(
                    f'mask {path} is a {image.format} file, whose values are '
                    'not exact; masks must be PNG, BMP or TIFF'
                )
            pixels = _mask_pixels(image)
    except FAILURES as error:
        raise _unreadable('mask', path, error) from None
    if classes == 2:
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        return (pixels > 0).any(-1).astype(np.uint8)
    _check_ids(path, pixels, classes)
    return pixels.astype(np.uint8)


def _from_deep(image: Image.Image) -> np.ndarray:
    image.load()
    pixels = np.asarray(ImageOps.exif_transpose(image))
    if image.mode.startswith('I;16'):
        assert pixels.dtype.kind == 'u' and pixels.dtype.itemsize == 2
    elif pixels.dtype.kind == 'f' or pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError('pixels must be whole numbers of at most 16 bits')
    return np.ascontiguousarray(pixels, np.uint16)


def _mask_pixels(image: Image.Image) -> np.ndarray:
    """Numbers of a mask: (H, W), or (H, W, 3) where it is in colour."""
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in _DEEP:
        return _from_deep(image)
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


def _refuse_depth(path: str, mode: str, bits: int) -> None:
    if bits == 16:
        raise UserError(
            f'image {path} has 8 bits a channel (mode {mode}) where 16 are '
            'expected; it was cast on the way: take the original, or set '
            'bits=8'
        )
    raise UserError(
        f'image {path} has more than 8 bits a pixel (mode {mode}), which '
        'would be cast; set bits=16 and channels=1'
    )


def _unreadable(what: str, path: str, error: BaseException) -> UserError:
    return UserError(
        f'{what} {path} cannot be read ({reason(error, path)}); replace or '
        'remove it'
    )
