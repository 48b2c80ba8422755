# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Decode, orient and resize images of any kind and depth.

Photographs for classifiers are another matter, see :mod:`.images`: there any
depth is reduced to 8 bits.
"""

import io
import os
import struct
import zlib

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from hkd_mm.errors import UserError
from hkd_mm.io.input_spec import InputSpec, normalised

_JPEG = ('.jpg', '.jpeg', '.jpe', '.jfif', '.jfi', '.jif')
IMAGE_SUFFIXES = frozenset((*_JPEG, '.png', '.bmp', '.tif', '.tiff', '.webp'))
# Pillow hands other formats to programs: EPS goes to Ghostscript. JPEG may
# turn out to be MPO, several photographs in one file.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF')
_KNOWN = f'{", ".join(FORMATS[:-1])} and {FORMATS[-1]}'
MAX_PIXELS = 100_000_000  # against files that unpack to gigabytes
# What Pillow raises of files with odd or damaged parts, as fuzzing finds it.
FAILURES = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_UPRIGHT = {  # value of the EXIF tag -> what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ALPHA = ('RGBA', 'RGBa', 'LA', 'La', 'PA')

Source = str | os.PathLike | bytes | Image.Image | np.ndarray


def read_rgb(source: Source, max_pixels: int | None = None) -> np.ndarray:
    """Decode one photograph of any kind.

    Args:
        source: a path, the bytes of a file, a Pillow image, or an array:
            uint8 (H, W, 3) RGB or (H, W) grey.
        max_pixels: larger images are refused before they are unpacked;
            ``MAX_PIXELS`` by default. Pillow has a limit of its own,
            ``PIL.Image.MAX_IMAGE_PIXELS``, of which it refuses the double.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        UserError: it is missing, damaged, too large or none of ``FORMATS``.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    try:
        if isinstance(source, np.ndarray):
            return _from_array(source, limit)
        if isinstance(source, Image.Image):
            return decode(source, limit)
        if isinstance(source, (bytes, bytearray, memoryview)):
            source = io.BytesIO(source)
        elif not isinstance(source, str):
            raise ValueError(
                'a path, bytes, a Pillow image or a uint8 array is wanted, '
                f'not {type(source).__name__}'
            )
        with Image.open(source, formats=FORMATS) as image:
            return decode(image, limit)
    except (*FAILURES, MemoryError) as error:
        raise UserError(
            f'{called(source)} cannot be read ({reason(error, source)})'
        ) from None


def called(source: object) -> str:
    """How errors name an image."""
    return f'image {source}' if isinstance(source, str) else 'the image'


def reason(error: BaseException, path: object) -> str:
    """Why a file cannot be read, in a part of one line.

    Args:
        error: what was raised.
        path: taken out of the text, for the message names it anyway.
    """
    text = str(error).splitlines()[0] if str(error) else repr(error)
    if isinstance(error, UnidentifiedImageError):
        return f'cannot identify image file; it is none of {_KNOWN}'
    if isinstance(path, io.BytesIO):
        return text.split(' <_io.BytesIO')[0]
    return text.replace(f' {path!r}', '') if isinstance(path, str) else text


def decode(image: Image.Image, max_pixels: int | None = None) -> np.ndarray:
    """The pixels of an image that Pillow has opened.

    EXIF orientation is applied. Grey becomes three equal channels, 16-bit
    grey is scaled so that 65535 becomes 255, CMYK and palettes become RGB,
    and transparent pixels are laid over white. Of several frames the first
    is taken. Colour profiles are not applied.

    Args:
        image: opened, not loaded yet.
        max_pixels: None for no limit but Pillow's.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        FAILURES: truncated, too large, or of pixels that are not supported.
    """
    if max_pixels is not None:
        check_size(image.width, image.height, max_pixels)
    image.load()
    return np.ascontiguousarray(np.asarray(_to_rgb(upright(image))))


def upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation of a loaded image.

    ``ImageOps.exif_transpose`` writes the whole EXIF block anew, of which
    cameras and editors leave more than Pillow can write; nobody reads it here.
    """
    turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    return image if turn is None else image.transpose(turn)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image by a ``ValueError`` before it is unpacked."""
    if width * height > max_pixels:
        raise ValueError(
            f'it has {width} x {height} pixels, more than the '
            f'{max_pixels} allowed'
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith('I'):
        return Image.fromarray(_from_16_bit(np.asarray(image))).convert('RGB')
    if image.mode == 'F':
        raise ValueError('floating-point pixels are not supported')
    if image.mode in _ALPHA or 'transparency' in image.info:
        image = image.convert('RGBA')
        white = Image.new('RGBA', image.size, 'white')
        return Image.alpha_composite(white, image).convert('RGB')
    return image.convert('RGB')


def _from_16_bit(pixels: np.ndarray) -> np.ndarray:
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError('more than 16 bits a pixel are not supported')
    pixels = pixels.astype(np.uint32)
    pixels += 128
    pixels //= 257
    return pixels.astype(np.uint8)


def _from_array(pixels: np.ndarray, max_pixels: int) -> np.ndarray:
    grey = pixels.ndim == 2
    right = grey or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not right or not pixels.size:
        raise ValueError(
            'arrays must be uint8 of shape (H, W, 3), RGB, or (H, W); this '
            f'is {pixels.dtype} of {pixels.shape}'
        )
    check_size(pixels.shape[1], pixels.shape[0], max_pixels)
    if grey:
        pixels = np.repeat(pixels[..., None], 3, -1)
    return np.ascontiguousarray(pixels)


def resize(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """To (H, W) as in training; the aspect ratio is not kept."""
    height, width = size
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


def prepare(
    source: Source, spec: InputSpec, max_pixels: int | None = None
) -> np.ndarray:
    """One photograph as the network is fed it.

    Args:
        source: see :func:`read_rgb`.
        spec: size, mean and std.
        max_pixels: see :func:`read_rgb`.

    Returns:
        (3, H, W) float32.

    Raises:
        UserError: as of :func:`read_rgb`.
    """
    small = resize(read_rgb(source, max_pixels), spec.size)
    return normalised(small.transpose(2, 0, 1), spec)


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
            return _stored_from_array(source, channels, bits, limit)
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


def _stored_from_array(
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
        spec: of the network.
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
