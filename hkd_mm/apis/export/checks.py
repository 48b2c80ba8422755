# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Whether the files answer as the trained net does, on validation images."""

from collections.abc import Sequence

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.classification_scores import classification_scores

from .differences import Differences

LOGITS = 1e-4  # of an image's largest logit, or of 1 where that is smaller
IMAGES = dict(fp32=1e-3, int8=2e-2)  # probabilities
PIXELS = 2e-3  # of int8, mean over those of an image


def same_logits(
    trained: np.ndarray,
    graph: np.ndarray,
    wrong: str = 'the ONNX graph is not the trained net',
    then: str = 'nothing was written',
) -> dict[str, float]:
    """Hold the graph's logits against torch's.

    Args:
        trained: (N, C) of torch.
        graph: (N, C) of the graph.
        wrong: says what a difference means.
        then: says what becomes of it.

    Returns:
        ``max``, the largest difference; ``scaled``, the same after those of
        each image are divided by its own largest logit where that is above
        1; and the ``limit`` of that.

    Raises:
        UserError: they differ by more than the limit, or are not finite.
    """
    apart = Differences()
    apart.add(trained, graph)
    return close(apart, wrong, then)


def close(
    apart: Differences,
    wrong: str = 'the ONNX graph is not the trained net',
    then: str = 'nothing was written',
) -> dict[str, float]:
    """As :func:`same_logits`, of differences that were summed up."""
    if not apart.scaled <= LOGITS:
        raise UserError(
            f'{wrong}: logits differ by {apart.scaled:.2e} of the largest of '
            f'an image (limit {LOGITS:g}); {then}'
        )
    return dict(max=apart.most, scaled=apart.scaled, limit=LOGITS)


def figures(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> dict:
    """Balanced accuracy, and each class's recall, None without images."""
    metrics, _ = classification_scores(logits, labels, classes)
    return dict(
        balanced_accuracy=metrics['balanced_accuracy'],
        recall={name: metrics.get(f'{name}/sensitivity') for name in classes},
    )


def same_probabilities(
    name: str, tensors: np.ndarray, images: np.ndarray, int8: bool = False
) -> dict[str, float]:
    """Hold a graph that takes images against the one behind it.

    Args:
        name: of the graph.
        tensors: (N, C) or (N, C, h, w) probabilities on images resized by
            cv2.
        images: the same on the images as they are.
        int8: the graph computes in int8. Of pixels the mean over an image
            counts then: a value on the edge of two levels moves some far.

    Raises:
        UserError: they differ by more than the limit.
    """
    apart = np.abs(tensors - images)
    limit = IMAGES['int8' if int8 else 'fp32']
    if int8 and apart.ndim == 4:
        apart, limit = apart.mean((2, 3)), PIXELS
    difference = float(apart.max())
    if not difference <= limit:
        raise UserError(
            f'{name}: the resize in the graph is not that of the training: '
            f'probabilities differ by {difference:.2e} (limit {limit:g}); '
            'nothing was written'
        )
    return dict(max=difference, limit=limit, images=len(images))
