# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Reading any photograph as 8-bit BGR."""

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from hkd_mm.errors import UserError
from hkd_mm.io.images import FAILURES, FORMATS, decode, reason
from hkd_mm.registry import TRANSFORMS


def read_image(path: str) -> np.ndarray:
    """Read a photograph, see :func:`hkd_mm.io.images.decode`.

    Args:
        path: the file.

    Returns:
        (H, W, 3) uint8 in BGR order, contiguous.

    Raises:
        UserError: missing, empty, truncated or not an image.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            rgb = decode(image)
    except FAILURES as error:
        raise UserError(
            f'image {path} cannot be read ({reason(error, path)}); replace '
            'or remove it (tools/data/verify.py lists all '
            'such files)'
        ) from None
    return np.ascontiguousarray(rgb[..., ::-1])


@TRANSFORMS.register_module()
class LoadSkinImage(BaseTransform):
    """Load ``img_path`` as 8-bit BGR, see :func:`read_image`.

    Adds ``img`` (H, W, 3) uint8, ``img_shape`` and ``ori_shape`` (H, W).
    """

    def transform(self, results: dict) -> dict:
        """Add the image to the sample."""
        results['img'] = read_image(results['img_path'])
        results['img_shape'] = results['img'].shape[:2]
        results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
