# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From a segmentor's logits to the class of each pixel."""

import cv2
import numpy as np


def pixel_probabilities(logits: np.ndarray) -> np.ndarray:
    """Sigmoid of one output, softmax of several.

    Args:
        logits: (N, C, H, W) floats.

    Returns:
        (N, C, H, W) float32.
    """
    values = logits.astype(np.float32)
    if values.shape[1] == 1:
        raised = np.exp(-np.abs(values))
        return np.where(values >= 0, 1, raised) / (1 + raised)
    raised = np.exp(values - values.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def pixel_classes(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """The class of each pixel, as ``hkd_mm.SegmentationMetric`` takes it.

    Args:
        probabilities: (N, C, H, W); C = 1 of one class against the
            background, else with the background, which is first.
        threshold: from which a pixel is of the one class.

    Returns:
        (N, H, W) uint8.
    """
    if probabilities.shape[1] == 1:
        return (probabilities[:, 0] >= threshold).astype(np.uint8)
    return probabilities.argmax(1).astype(np.uint8)


def enlarged(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The probabilities of one image at its own size, bilinear.

    Args:
        probabilities: (C, h, w) float32.
        size: (H, W).

    Returns:
        (C, H, W) float32.
    """
    height, width = size
    planes = [
        cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
        for plane in probabilities
    ]
    return np.stack(planes)
