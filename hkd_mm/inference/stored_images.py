# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images at their own depth, as segmentors take them; training reads them too.

Photographs for classifiers are another matter, see :mod:`.images`: there any
depth is reduced to 8 bits.
"""

import io
import os

import cv2
import numpy as np
from PIL import Image

from hkd_mm.errors import UserError

from .images import (
    FAILURES,
    FORMATS,
    MAX_PIXELS,
    Source,
    called,
    check_size,
    decode,
    reason,
    upright,
)
from .manifest_fields import InputSpec
from .values import normalised

DEEP = ('I', 'F')  # first letters of modes with more than 8 bits
_DTYPES = {8: np.uint8, 16: np.uint16}


def read_stored(
    source: Source, channels: int, bits: int, max_pixels: int | None = None
) -> np.ndarray:
    """Read an image without a change of its depth.

    Args:
        source: a path, the bytes of a file, a Pillow image, or an array:
            (H, W), or (H, W, 3) RGB, of the depth.
        channels: 3 for RGB, 1 for grey (of 8-bit colours the luma).
        bits: 8 or 16; 16 bits have one channel.
        max_pixels: larger images are refused; ``images.MAX_PIXELS`` by
            default.

    Returns:
        (H, W) or (H, W, 3) of uint8 or uint16.

    Raises:
        UserError: unreadable, too large, or of another depth.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    name = called(source)
    try:
        if isinstance(source, np.ndarray):
            return _from_array(source, channels, bits, limit)
        if isinstance(source, Image.Image):
            return _from_image(source, channels, bits, limit, name)
        if isinstance(source, (bytes, bytearray, memoryview)):
            source = io.BytesIO(source)
        elif not isinstance(source, str):
            raise ValueError(
                'a path, bytes, a Pillow image or an array is wanted, not '
                f'{type(source).__name__}'
            )
        with Image.open(source, formats=FORMATS) as image:
            return _from_image(image, channels, bits, limit, name)
    except (*FAILURES, MemoryError) as error:
        raise UserError(
            f'{name} cannot be read ({reason(error, source)}); replace or '
            'remove it'
        ) from None


def _from_image(
    image: Image.Image, channels: int, bits: int, limit: int, name: str
) -> np.ndarray:
    refuse_deep_colour(image)
    deep = image.mode[0] in DEEP
    if deep != (bits == 16):
        _refuse_depth(name, image.mode, bits)
    if bits == 16:
        check_size(image.width, image.height, limit)
        return from_deep(image)
    return _of_channels(decode(image, limit), channels)


def _of_channels(rgb: np.ndarray, channels: int) -> np.ndarray:
    return rgb if channels == 3 else cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def _from_array(
    pixels: np.ndarray, channels: int, bits: int, limit: int
) -> np.ndarray:
    wanted = _DTYPES[bits]
    colour = pixels.ndim == 3 and pixels.shape[2] == 3
    right = pixels.ndim == 2 if bits == 16 else pixels.ndim == 2 or colour
    if pixels.dtype != wanted or not right or not pixels.size:
        kind = '(H, W)' if bits == 16 else '(H, W, 3), RGB, or (H, W)'
        raise ValueError(
            f'arrays must be {wanted.__name__} of shape {kind}; this is '
            f'{pixels.dtype} of {pixels.shape}'
        )
    check_size(pixels.shape[1], pixels.shape[0], limit)
    if colour:
        return _of_channels(np.ascontiguousarray(pixels), channels)
    if channels == 3:
        pixels = np.repeat(pixels[..., None], 3, -1)
    return np.ascontiguousarray(pixels)


def refuse_deep_colour(image: Image.Image) -> None:
    """Refuse 16 bits a channel in colour, which Pillow would cast.

    Args:
        image: opened, not loaded yet.

    Raises:
        ValueError: it has them.
    """
    deep = any(';16' in str(tile) for tile in getattr(image, 'tile', ()))
    if deep and image.mode[0] not in DEEP:
        raise ValueError(
            'its 16 bits a channel in several channels would be cast to 8'
        )


def from_deep(image: Image.Image) -> np.ndarray:
    """Pixels of an opened image of 16 bits, (H, W) uint16.

    Raises:
        FAILURES: damaged, or values that 16 bits do not hold.
    """
    image.load()
    pixels = np.asarray(upright(image))
    if image.mode.startswith('I;16'):
        assert pixels.dtype.kind == 'u' and pixels.dtype.itemsize == 2
    elif pixels.dtype.kind == 'f' or pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError('pixels must be whole numbers of at most 16 bits')
    return np.ascontiguousarray(pixels, np.uint16)


def _refuse_depth(name: str, mode: str, bits: int) -> None:
    if bits == 16:
        raise UserError(
            f'{name} has 8 bits a channel (mode {mode}) where 16 are '
            'expected; it was cast on its way: take the original (a data set '
            'of 8 bits is read with bits=8)'
        )
    raise UserError(
        f'{name} has more than 8 bits a pixel (mode {mode}) where 8 are '
        'expected, and would be cast (a data set of 16 bits is read with '
        'bits=16 and channels=1)'
    )


def resize_stored(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """To (H, W) by area, at the same depth; the aspect ratio is not kept."""
    height, width = size
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def prepare_stored(
    source: Source, spec: InputSpec, max_pixels: int | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """One image as a segmentor is fed it.

    Args:
        source: see :func:`read_stored`.
        spec: of the net.
        max_pixels: see :func:`read_stored`.

    Returns:
        (C, H, W) float32, and the (H, W) of the image itself.

    Raises:
        UserError: as of :func:`read_stored`.
    """
    pixels = read_stored(source, spec.channels, spec.bits, max_pixels)
    small = resize_stored(pixels, spec.size)
    small = small.reshape(*spec.size, spec.channels)
    return normalised(small.transpose(2, 0, 1), spec), pixels.shape[:2]
