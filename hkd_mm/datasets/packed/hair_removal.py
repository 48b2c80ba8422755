# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Remove dark hairs from images before they are packed."""

import inspect
from typing import Annotated

import cv2
import numpy as np
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from hkd_mm.io.schema import validate

VERSION = 1  # raise it with any change of what the pixels become
_LEAST = 3  # pixels of the smallest kernel, and of the rim of a hair
_SEARCHED = 1024  # pixels of the shorter side that hairs are sought at


class _Settings(TypedDict, total=False):
    kernel: Annotated[float, Field(gt=0, le=1)]
    threshold: Annotated[float, Field(gt=0, le=255)]
    length: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    radius: Annotated[float, Field(gt=0, le=100)]


_Settings.__pydantic_config__ = ConfigDict(extra='forbid')


def remove_hair(
    image: np.ndarray,
    kernel: float = 0.04,
    threshold: float = 15,
    length: float = 0.1,
    radius: float = 3,
) -> np.ndarray:
    """Fill dark hairs from their surroundings.

    A black-hat (closing minus image, on the luminance) finds what is darker
    than its surroundings and thinner than the kernel; above the threshold,
    connected regions that are long enough count as hair, with a rim of one
    pixel, and are inpainted (Telea 2004). Short dots and globules and light hairs
    stay; dark lines of a pigment network or a vessel as long as ``length`` do not.
    After DullRazor (Lee et al., Computers in Biology and Medicine 27:533, 1997).

    Args:
        image: (H, W, 3) uint8, RGB.
        kernel: diameter of the black-hat, in parts of the shorter side;
            hairs must be thinner; in (0, 1).
        threshold: how much darker than its surroundings a hair is, in grey
            levels of 255; in (0, 255].
        length: diagonal of the box about the shortest hair, in parts of the
            shorter side; >= 0.
        radius: of the inpainting, in pixels; > 0.

    Returns:
        (H, W, 3) uint8; a copy.
    """
    mask = _hairs(image, kernel, threshold, length)
    if not mask.any():
        return image.copy()
    mask = cv2.dilate(mask, np.ones((_LEAST, _LEAST), np.uint8))
    return cv2.inpaint(image, mask, radius, cv2.INPAINT_TELEA)


def _hairs(
    image: np.ndarray, kernel: float, threshold: float, length: float
) -> np.ndarray:
    """(H, W) uint8, 1 where a hair is."""
    side = min(image.shape[:2])
    width = max(_LEAST, round(side * kernel) | 1)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    hat = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, shape)
    dark = (hat >= threshold).astype(np.uint8)
    _, label, boxes, _ = cv2.connectedComponentsWithStats(dark)
    wide, high = boxes[:, cv2.CC_STAT_WIDTH], boxes[:, cv2.CC_STAT_HEIGHT]
    found = np.hypot(wide, high) >= length * side
    found[0] = False  # the background
    return found[label].astype(np.uint8)


def remove_hair_for(
    image: np.ndarray, side: int, settings: dict[str, float]
) -> np.ndarray:
    """Apply :func:`remove_hair` to an image to be resized to ``side`` pixels.

    An image whose shorter side has more than 1024 pixels, and more than twice those
    wanted, is reduced to that first.
    """
    height, width = image.shape[:2]
    ratio = max(_SEARCHED, 2 * side) / min(height, width)
    if ratio < 1:
        size = (round(width * ratio), round(height * ratio))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return remove_hair(np.ascontiguousarray(image), **settings)


def hair_settings(word: object) -> dict[str, float] | None:
    """All settings that ``packed.hair_removal`` means; None for False, None.

    Raises:
        UserError: another value, or a setting out of its range.
    """
    if word is None or word is False:
        return None
    found = validate(_Settings, {} if word is True else word, 'packed.hair_removal')
    known = inspect.signature(remove_hair).parameters
    found = {name: found.get(name, known[name].default) for name in [*known][1:]}
    return {name: float(value) for name, value in found.items()}
