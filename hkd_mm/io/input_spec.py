# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Prepare an image for a network: size, window, mean, std."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field

_Side = Annotated[int, Field(ge=1, le=4096)]
_Finite = Annotated[float, Field(ge=-1e6, le=1e6)]
_Positive = Annotated[float, Field(ge=1e-3, le=1e6)]


@dataclass(frozen=True)
class InputSpec:
    """Preparation of an image for a model.

    Attributes:
        size: (H, W) in pixels.
        resize: ``area``: ``cv2.INTER_AREA``, to whole numbers of the image's depth.
        colour: ``RGB``, order of the channels; ``grey`` for one channel.
        mean: of each channel, in 0..255; subtracted.
        std: of each channel, in 0..255; divided by afterwards.
        bits: of a channel, 8 or 16; always 8 for classifiers, whose images
            are reduced to it.
        window: (centre, width) in values of the image: lower values become
            0, higher ones 255, linear in between; None takes the whole range
            of ``bits`` for 0..255.
    """

    __pydantic_config__ = ConfigDict(extra='forbid')

    size: tuple[_Side, _Side]
    resize: Literal['area']
    colour: Literal['RGB', 'grey']
    mean: tuple[_Finite, ...]
    std: tuple[_Positive, ...]
    bits: Literal[8, 16] = 8
    window: tuple[_Finite, _Positive] | None = None

    @property
    def channels(self) -> int:
        """Of the image and of the model's input."""
        return 1 if self.colour == 'grey' else 3


def windowed(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Values of an image as float32 in [0, 255], any shape."""
    values = pixels.astype(np.float32)
    if spec.window is not None:
        centre, width = spec.window
        values -= np.float32(centre - width / 2)
        values *= np.float32(255 / width)
        return values.clip(0, 255)
    if spec.bits == 16:
        values *= np.float32(255 / 65535)
    return values


def normalised(planes: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Window and normalise (..., C, H, W) uint8 or uint16 to float32.

    As the data preprocessors of training do.
    """
    mean = np.float32(spec.mean)[:, None, None]
    std = np.float32(spec.std)[:, None, None]
    return (windowed(planes, spec) - mean) / std
