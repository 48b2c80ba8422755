# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Reading any photograph as 8-bit BGR."""

import struct

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageOps

from hkd_mm.errors import UserError
from hkd_mm.registry import TRANSFORMS

_FAILURES = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)

_ALPHA = ('RGBA', 'RGBa', 'LA', 'La', 'PA')


def read_image(path: str) -> np.ndarray:
    """Decode a photograph with Pillow.

    EXIF orientation is applied. Grey becomes three equal channels, 16-bit
    grey is scaled so that 65535 becomes 255, CMYK and palettes become RGB,
    and transparent pixels are laid over white. Of several frames the first
    is taken. Colour profiles are not applied.

    Args:
        path: the file.

    Returns:
        (H, W, 3) uint8 in BGR order, contiguous.

    Raises:
        UserError: missing, empty, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            image = ImageOps.exif_transpose(image)
            rgb = np.asarray(_to_rgb(image))
    except _FAILURES as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        reason = reason.replace(f' {path!r}', '')
        raise UserError(
            f'image {path} cannot be read ({reason}); replace or '
            'remove it (tools/dataset_tools/verify.py lists all '
            'such files)'
        ) from None
    return np.ascontiguousarray(rgb[..., ::-1])


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
    pixels = pixels.astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError('more than 16 bits a pixel are not supported')
    return ((pixels + 128) // 257).astype(np.uint8)


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
