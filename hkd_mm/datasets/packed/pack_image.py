# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One photograph into a row of a store."""

from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError

from ..load_skin_image import read_image
from .hair_removal import remove_hair_for
from .parts import put_row


def pack_image(
    path: str,
    side: int,
    interpolation: str,
    hair_removal: dict[str, float] | None = None,
) -> np.ndarray:
    """Decode and resize one photograph as the stock pipeline does.

    ``LoadSkinImage`` followed by ``Resize(scale=(side, side),
    interpolation=interpolation)``, bit for bit, in RGB order; hairs, if they
    are to go, go before the resize.

    Args:
        path: the file.
        side: pixels.
        interpolation: a word of ``mmcv.imresize``.
        hair_removal: settings of :func:`.hair_removal.remove_hair`, or None.

    Returns:
        (side, side, 3) uint8.
    """
    from mmcv import imresize

    image = read_image(path)
    if hair_removal is not None:
        image = np.ascontiguousarray(
            remove_hair_for(image[..., ::-1], side, hair_removal)[..., ::-1]
        )
    image = imresize(
        image, (side, side), interpolation=interpolation, backend='cv2'
    )
    return np.ascontiguousarray(image[..., ::-1])


def decode(
    folder: Path,
    count: int,
    side: int,
    interpolation: str,
    hair_removal: dict[str, float] | None,
    job: tuple[int, str],
) -> str | None:
    """Pack one (row, path); a message when the file cannot be read."""
    row, path = job
    try:
        pixels = pack_image(path, side, interpolation, hair_removal)
    except UserError as error:
        return str(error)
    put_row(folder, count, row, pixels.tobytes())
    return None
