# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read any image as 8-bit BGR."""

import numpy as np
from mmcv.transforms import BaseTransform

from hkd_mm.io.images import MAX_PIXELS, decode, reading
from hkd_mm.registry import TRANSFORMS


def read_image(path: str) -> np.ndarray:
    """Read an image, see :func:`hkd_mm.io.images.decode`.

    Returns:
        (H, W, 3) uint8 in BGR order, contiguous.

    Raises:
        UserError: missing, empty, truncated, too large or not an image.
    """
    remedy = '; replace or remove it (tools/data/verify.py lists all such files)'
    with reading(path, remedy=remedy) as image:
        rgb = decode(image, MAX_PIXELS)
    return np.ascontiguousarray(rgb[..., ::-1])


@TRANSFORMS.register_module()
class LoadSkinImage(BaseTransform):
    """Load ``img_path`` as 8-bit BGR, see :func:`read_image`.

    Adds ``img`` (H, W, 3) uint8, ``img_shape`` and ``ori_shape`` (H, W).
    """

    def transform(self, results: dict) -> dict:
        results['img'] = read_image(results['img_path'])
        results['img_shape'] = results['img'].shape[:2]
        results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
