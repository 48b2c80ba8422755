# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Decode, orient and resize images of 8 and 16 bits."""

import io
import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, partial

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from hkd_mm.errors import UserError
from hkd_mm.io.files import check_regular
from hkd_mm.io.input_spec import InputSpec, normalised

_JPEG = ('.jpg', '.jpeg', '.jpe', '.jfif', '.jfi', '.jif')
_HEIF = ('.heic', '.heif', '.hif')
IMAGE_SUFFIXES = frozenset((*_JPEG, '.png', '.bmp', '.tif', '.tiff', '.webp', *_HEIF))
# Pillow hands other formats to programs: EPS goes to Ghostscript. JPEG may
# turn out to be MPO, several images in one file.
_FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF')
_HEIF_BRANDS = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1')
MAX_PIXELS = 100_000_000  # against files that unpack to gigabytes
_UPRIGHT = {  # value of the EXIF tag -> what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_STORED = {  # the same -> a view of the upright pixels in the order of the file
    2: np.fliplr,
    3: partial(np.rot90, k=2),
    4: np.flipud,
    5: partial(np.swapaxes, axis1=0, axis2=1),
    6: np.rot90,
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: partial(np.rot90, k=-1),
}
_STRIP = 2**22  # pixels that are converted at once
_ALPHA = ('RGBA', 'RGBa', 'LA', 'La', 'PA')
DEEP = ('I', 'F')  # first letters of modes with more than 8 bits
_DTYPES = {8: np.uint8, 16: np.uint16}

Source = str | os.PathLike | bytes | Image.Image | np.ndarray


def read_rgb(source: Source, max_pixels: int | None = None) -> np.ndarray:
    """Decode one image of any depth to 8-bit RGB.

    Args:
        source: a path, the bytes of a file, a Pillow image, or an array:
            uint8 (H, W, 3) RGB or (H, W) grey.
        max_pixels: larger images are refused before they are unpacked;
            ``MAX_PIXELS`` by default. Pillow refuses images of more than
            twice its own limit, ``PIL.Image.MAX_IMAGE_PIXELS``.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        UserError: it is missing, damaged, too large or of another format.
    """
    limit = _pixel_limit(max_pixels)
    with reading(source, remedy='') as image:
        if isinstance(image, np.ndarray):
            return _check_array(image, 3, 8, limit)
        return decode(image, limit)


def read_stored(
    source: Source, channels: int, bits: int, max_pixels: int | None = None
) -> np.ndarray:
    """Decode an image without changing its depth.

    Args:
        source: as of :func:`read_rgb`, arrays of the depth.
        channels: 3 for RGB, 1 for grey (of 8-bit colours the luma).
        bits: 8 or 16; 16 bits have one channel.

    Returns:
        (H, W) or (H, W, 3) of uint8 or uint16.

    Raises:
        UserError: unreadable, too large, or of another depth.
    """
    limit = _pixel_limit(max_pixels)
    with reading(source) as image:
        if isinstance(image, np.ndarray):
            pixels = _check_array(image, channels, bits, limit)
        else:
            refuse_deep_colour(image)
            if (image.mode[0] in DEEP) != (bits == 16):
                _refuse_depth(_name(source), image.mode, bits)
            if bits == 16:
                check_size(image, limit)
                return from_deep(image)
            pixels = decode(image, limit)
    if channels == 1 and pixels.ndim == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return pixels


@contextmanager
def reading(
    source: Source, name: str = '', remedy: str = '; replace or remove it'
) -> Iterator[Image.Image | np.ndarray]:
    """Open an image for a block in which all that fails becomes one ``UserError``."""
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        source = io.BytesIO(source)
    try:
        as_it_is = isinstance(source, (Image.Image, np.ndarray))
        with nullcontext(source) if as_it_is else _opened(source) as image:
            yield image
    except UserError:
        raise
    except Exception as error:  # of odd or damaged files Pillow raises about any
        raise UserError(
            f'{name or _name(source)} cannot be read ({_reason(error, source)}){remedy}'
        ) from None


def _opened(source: str | io.BytesIO) -> Image.Image:
    if isinstance(source, str):
        check_regular(source)
        with open(source, 'rb') as file:
            head = file.read(12)
    elif isinstance(source, io.BytesIO):
        head = source.getvalue()[:12]
    else:
        raise ValueError(
            'a path, bytes, a Pillow image or an array is wanted, not '
            f'{type(source).__name__}'
        )
    if head[4:8] == b'ftyp' and head[8:] in _HEIF_BRANDS:
        _register_heif()
        # pillow-heif turns the image upright and resets the EXIF orientation
        return Image.open(source, formats=('HEIF',))
    return Image.open(source, formats=_FORMATS)


@cache
def _register_heif() -> None:
    try:
        import pillow_heif
    except ImportError:
        raise ValueError('a HEIC file; to read it: pip install pillow-heif') from None
    pillow_heif.register_heif_opener()


def _pixel_limit(max_pixels: int | None) -> int:
    if max_pixels is not None and max_pixels < 1:
        raise UserError(f'max_pixels={max_pixels} must be at least 1')
    return MAX_PIXELS if max_pixels is None else max_pixels


def _check_array(
    pixels: np.ndarray, channels: int, bits: int, limit: int
) -> np.ndarray:
    grey = pixels.ndim == 2
    colour = pixels.ndim == 3 and pixels.shape[2] == 3 and bits == 8
    if pixels.dtype != _DTYPES[bits] or not (grey or colour) or not pixels.size:
        kind = '(H, W)' if bits == 16 else '(H, W, 3), RGB, or (H, W)'
        raise ValueError(
            f'arrays must be {_DTYPES[bits].__name__} of shape {kind}; this '
            f'is {pixels.dtype} of {pixels.shape}'
        )
    _check_size(pixels.shape[1], pixels.shape[0], limit)
    if grey and channels == 3:
        pixels = np.repeat(pixels[..., None], 3, -1)
    return np.ascontiguousarray(pixels)


def _name(source: object) -> str:
    path = isinstance(source, (str, os.PathLike))
    return f'image {os.fspath(source)}' if path else 'the image'


def _reason(error: BaseException, source: object) -> str:
    """Why a file cannot be read, in a part of one line without its path."""
    text = str(error).splitlines()[0] if str(error) else repr(error)
    if isinstance(error, UnidentifiedImageError):
        known = f'{", ".join(_FORMATS)} and HEIC'
        return f'cannot identify image file; it is none of {known}'
    if isinstance(source, io.BytesIO):
        return text.split(' <_io.BytesIO')[0]
    if isinstance(source, str):
        return text.replace(f': {source!r}', '').replace(f' {source!r}', '')
    return text


def decode(image: Image.Image, max_pixels: int) -> np.ndarray:
    """Decode an image that Pillow has opened to (H, W, 3) uint8 RGB, contiguous.

    EXIF orientation is applied. Grey becomes three equal channels, 16-bit
    grey is scaled so that 65535 becomes 255, CMYK and palettes become RGB,
    and transparent pixels are blended with white. Of several frames the
    first is taken. Colour profiles are not applied.
    """
    check_size(image, max_pixels)
    image.load()
    tag, (width, height) = _orientation(image), image.size
    shape = (width, height) if tag in (5, 6, 7, 8) else (height, width)
    pixels = np.empty((*shape, 3), np.uint8)
    stored, rows = _STORED.get(tag, np.asarray)(pixels), max(1, _STRIP // width)
    for top in range(0, height, rows):  # so that a large image is there but twice
        box = (0, top, width, min(top + rows, height))
        stored[top : box[3]] = _to_rgb(image.crop(box) if height > rows else image)
    return pixels


def _orientation(image: Image.Image) -> int | None:
    return image.getexif().get(ExifTags.Base.Orientation)


def upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation of a loaded image.

    ``ImageOps.exif_transpose`` writes the EXIF block again, which Pillow may not.
    """
    turn = _UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def check_size(image: Image.Image, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse an opened image by a ``ValueError`` before it is unpacked."""
    _check_size(image.width, image.height, max_pixels)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ValueError(
            f'it has {width} x {height} pixels, more than the {max_pixels} allowed'
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith('I'):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError('more than 16 bits a pixel are not supported')
        pixels = (pixels.astype(np.uint32) + 128) // 257
        return Image.fromarray(pixels.astype(np.uint8)).convert('RGB')
    if image.mode == 'F':
        raise ValueError('floating-point pixels are not supported')
    if image.mode in _ALPHA or 'transparency' in image.info:
        image = image.convert('RGBA')
        white = Image.new('RGBA', image.size, 'white')
        image = Image.alpha_composite(white, image)
    return image if image.mode == 'RGB' else image.convert('RGB')


def refuse_deep_colour(image: Image.Image) -> None:
    """Refuse, by a ``ValueError``, 16 bits a channel in colour: Pillow casts them."""
    deep = any(';16' in str(tile) for tile in getattr(image, 'tile', ()))
    if deep and image.mode[0] not in DEEP:
        raise ValueError('its 16 bits a channel in several channels would be cast to 8')


def from_deep(image: Image.Image) -> np.ndarray:
    """Pixels of an opened image of 16 bits, (H, W) uint16."""
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
            f'{name} has 8 bits a channel (mode {mode}) where 16 are expected; it was '
            'cast before: take the original (a data set of 8 bits is read with bits=8)'
        )
    raise UserError(
        f'{name} has more than 8 bits a pixel (mode {mode}) where 8 are expected, and '
        'would be cast (a data set of 16 bits is read with bits=16 and channels=1)'
    )


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """To (H, W) by area, at the same depth; the aspect ratio is not kept."""
    height, width = size
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def prepare(
    source: Source, spec: InputSpec, max_pixels: int | None = None
) -> np.ndarray:
    """The input of a classifier from one image of any depth, (3, H, W) float32."""
    small = resize(read_rgb(source, max_pixels), spec.size)
    return normalised(small.transpose(2, 0, 1), spec)


def prepare_stored(
    source: Source, spec: InputSpec, max_pixels: int | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """The input of a segmentor from one image of the model's depth.

    Returns:
        (C, H, W) float32, and the (H, W) of the image itself.
    """
    pixels = read_stored(source, spec.channels, spec.bits, max_pixels)
    small = resize(pixels, spec.size).reshape(*spec.size, spec.channels)
    return normalised(small.transpose(2, 0, 1), spec), pixels.shape[:2]


def data_uri(rgb: np.ndarray, side: int = 128) -> str:
    """A small JPEG of (H, W, 3) uint8 for a page; ``side`` pixels at most."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, 'JPEG', quality=80)
    return f'data:image/jpeg;base64,{b64encode(stream.getvalue()).decode()}'


def overlaid(rgb: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A heat map (H, W) in [0, 1] on an image (H, W, 3) uint8."""
    from matplotlib import colormaps

    colours = 255 * colormaps['inferno'](heat)[..., :3]
    return (0.5 * rgb + 0.5 * colours).round().astype(np.uint8)
