# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How large in millimetres what an image shows is."""

import math
from collections.abc import Sequence

from PIL import ExifTags, Image

from hkd_mm.errors import UserError
from hkd_mm.inference.images import FAILURES, FORMATS, reason

SPACING = 'pixel_spacing'  # column: mm from pixel to pixel
_TURNED = (5, 6, 7, 8)  # orientations in EXIF that exchange the sides


def extents(infos: Sequence[dict]) -> dict[str, tuple[float, float]]:
    """Height and width of images whose table has ``pixel_spacing``.

    Args:
        infos: of a ``MaskDataset``.

    Returns:
        Sample id -> (height, width) in mm; empty where no image has one.

    Raises:
        UserError: some have one and some do not, or it is not one length, or
            two: from row to row and from column to column, as in DICOM.
    """
    told = {
        info['sample_id']: str((info['metadata'] or {}).get(SPACING) or '')
        for info in infos
    }
    if not any(told.values()):
        return {}
    found = {}
    for info in infos:
        rows, columns = _lengths(told[info['sample_id']], info['sample_id'])
        height, width = _size(info['img_path'])
        found[info['sample_id']] = (rows * height, columns * width)
    return found


def _size(path: str) -> tuple[int, int]:
    """Height and width of an image as it is read, of its header alone."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
            size = image.width, image.height
    except FAILURES as error:
        raise UserError(
            f'image {path} cannot be read ({reason(error, path)}); replace or '
            'remove it'
        ) from None
    return size if turned else size[::-1]


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
