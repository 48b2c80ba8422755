# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read masks as class ids, and the physical size of their pixels."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import ExifTags, Image

from hkd_mm.errors import UserError
from hkd_mm.io import images
from hkd_mm.structures.mask_samples import IGNORE

_LOSSY = ('JPEG', 'MPO', 'WEBP', 'HEIF')  # nothing tells a lossless WebP
SPACING = 'pixel_spacing'  # column: mm from pixel to pixel
_TURNED = (5, 6, 7, 8)  # orientations in EXIF that exchange the sides
_LOSSY_TIFF = ('jpeg', 'tiff_jpeg', 'webp', 'tiff_sgilog', 'tiff_sgilog24')


def read_mask(path: str, classes: int) -> np.ndarray:
    """Read a lossless mask.

    With two classes every value above 0 is the foreground, in any mode, of a
    palette every colour but black; with more of them values are class ids (or
    indices of a palette) and 255 is ignored.

    Returns:
        (H, W) uint8, class ids.

    Raises:
        UserError: unreadable, lossy, a palette without a background, or a
            value that is no class.
    """
    with images.reading(path, f'mask {path}') as image:
        compression = str(image.info.get('compression', ''))
        if image.format in _LOSSY or compression in _LOSSY_TIFF:
            within = f' with {compression} within' if compression else ''
            raise UserError(
                f'mask {path} is a {image.format} file{within}, whose values are '
                'not exact; masks must be PNG, BMP or lossless TIFF'
            )
        images.refuse_deep_colour(image)
        images.check_size(image)
        if classes == 2 and image.mode == 'P':
            return _coloured(path, images.upright(image))
        pixels = _mask_pixels(image)
    if classes == 2:
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        return (pixels > 0).any(-1).astype(np.uint8)
    _check_ids(path, pixels, classes)
    return pixels.astype(np.uint8)


def _coloured(path: str, image: Image.Image) -> np.ndarray:
    """Where a palette, whose order says nothing, shows another colour than black."""
    indices = np.asarray(image)
    colours = np.zeros((256, 3), np.uint8)
    listed = np.array(image.getpalette('RGB'), np.uint8).reshape(-1, 3)
    colours[: len(listed)] = listed
    black = ~colours.any(-1)
    if black[np.union1d(indices, [0])].sum() != 1:
        raise UserError(
            f'mask {path} has a palette in which not exactly one colour is black, so '
            'that the background is not known; save it in grey, the background as 0'
        )
    return (~black[indices]).astype(np.uint8)


def _mask_pixels(image: Image.Image) -> np.ndarray:
    """Numbers of a mask: (H, W), or (H, W, 3) where it is in colour."""
    image.load()
    image = images.upright(image)
    if image.mode[0] in images.DEEP:
        return images.from_deep(image)
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


def extents(infos: Sequence[dict]) -> dict[str, tuple[float, float]]:
    """Height and width in mm of images whose table has ``pixel_spacing``, by id.

    Raises:
        UserError: some have one and some do not, or it is not one length or
            two (row to row and column to column, as in DICOM).
    """
    texts = [str((info['metadata'] or {}).get(SPACING) or '') for info in infos]
    if not any(texts):
        return {}
    found = {}
    for info, text in zip(infos, texts):
        rows, columns = _lengths(text, info['sample_id'])
        with images.reading(info['img_path']) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
            width, height = image.size[::-1] if turned else image.size
        found[info['sample_id']] = (rows * height, columns * width)
    return found


def _lengths(text: str, name: str) -> tuple[float, float]:
    try:
        values = [float(word) for word in text.replace('\\', ' ').split()]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 < v < math.inf for v in values):
        raise UserError(
            f'{SPACING} of {name} is "{text}"; it must be millimetres above '
            '0, one number or "HEIGHT WIDTH", for every image of the part, or '
            'be left empty for all'
        )
    return values[0], values[-1]
