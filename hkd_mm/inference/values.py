# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From the values of an image to what a net is fed."""

import numpy as np

from .manifest_fields import InputSpec


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
