# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How large in millimetres what an image shows is."""

import math
from collections.abc import Sequence

from PIL import Image

from hkd_mm.errors import UserError

SPACING = 'pixel_spacing'  # column: mm from pixel to pixel


def extents(infos: Sequence[dict]) -> dict[str, tuple[float, float]]:
    """Height and width of images whose table has ``pixel_spacing``.

    Args:
        infos: of a ``MaskDataset``.

    Returns:
        Sample id -> (height, width) in mm; empty where no image has one.

    Raises:
        UserError: some have one and some do not, or it is no length.
    """
    told = {
        info['sample_id']: str((info['metadata'] or {}).get(SPACING) or '')
        for info in infos
    }
    if not any(told.values()):
        return {}
    found = {}
    for info in infos:
        spacing = _length(told[info['sample_id']], info['sample_id'])
        with Image.open(info['img_path']) as image:  # its header alone
            found[info['sample_id']] = (
                spacing * image.height,
                spacing * image.width,
            )
    return found


def _length(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UserError(
            f'{SPACING} of {name} is "{text}"; it must be millimetres above 0 '
            'for every image of the part, or be left empty for all'
        )
    return value
