# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Prepare an image for a network: size, window, mean, std."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes what the network sees.

    Attributes:
        size: (H, W) in pixels.
        resize: ``area``: ``cv2.INTER_AREA``, to whole numbers of the image's
            depth.
        colour: ``RGB``, order of the channels; ``grey`` for one channel.
        mean: of each channel, in 0..255; subtracted.
        std: of each channel, in 0..255; divided by afterwards.
        bits: of a channel of the image, 8 or 16; of photographs, which are
            taken at any depth and reduced to it, always 8.
        window: (centre, width) in values of the image: what is below becomes
            0, what is above 255, linear in between; None takes the whole
            range of ``bits`` for 0..255.
    """

    size: tuple[int, int]
    resize: str
    colour: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bits: int = 8
    window: tuple[float, float] | None = None

    @property
    def channels(self) -> int:
        """Of the image and of what the network sees."""
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
    """Window and normalise, as the data preprocessors of training do.

    Args:
        planes: (..., C, H, W) uint8 or uint16.
        spec: window, mean and std.

    Returns:
        The same as float32.
    """
    mean = np.float32(spec.mean)[:, None, None]
    std = np.float32(spec.std)[:, None, None]
    return (windowed(planes, spec) - mean) / std
