# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Whether the files answer as the trained net does, on validation images."""

from collections.abc import Sequence

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.classification_scores import classification_scores

LOGITS = 1e-4  # of the largest logit, or of 1 where that is smaller
IMAGES = dict(fp32_image=1e-3, int8_image=2e-2)  # probabilities


def same_logits(trained: np.ndarray, graph: np.ndarray) -> dict[str, float]:
    """Hold the graph's logits against torch's.

    Args:
        trained: (N, C) of torch.
        graph: (N, C) of the graph.

    Returns:
        ``max``, the largest difference, the ``scale`` and the ``limit``.

    Raises:
        UserError: they differ by more than the limit, or are not finite.
    """
    difference = float(np.abs(trained - graph).max())
    scale = max(1.0, float(np.abs(trained).max()))
    limit = LOGITS * scale
    if not difference <= limit:
        raise UserError(
            f'the ONNX graph is not the trained net: logits differ by '
            f'{difference:.2e} (limit {limit:.2e}); nothing was written'
        )
    return dict(max=difference, scale=scale, limit=limit)


def figures(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> dict:
    """Balanced accuracy, and each class's recall, None without images."""
    metrics, _ = classification_scores(logits, labels, classes)
    return dict(
        balanced_accuracy=metrics['balanced_accuracy'],
        recall={name: metrics.get(f'{name}/sensitivity') for name in classes},
    )


def compare_int8(
    fp32: np.ndarray, int8: np.ndarray, measured: dict[str, dict], limit: float
) -> dict:
    """What int8 costs.

    Args:
        fp32: (N, C) logits.
        int8: (N, C) logits.
        measured: ``fp32`` and ``int8`` of :func:`figures`.
        limit: of the loss, in points of balanced accuracy.
    """
    before, after = measured['fp32'], measured['int8']
    losses = [
        100 * (before['recall'][name] - after['recall'][name])
        for name in before['recall']
        if before['recall'][name] is not None
    ]
    lost = before['balanced_accuracy'] - after['balanced_accuracy']
    return dict(
        points_lost=100 * lost,
        limit=limit,
        worst_recall_points_lost=max(losses),
        same_answers=float((fp32.argmax(1) == int8.argmax(1)).mean()),
        max_logit_difference=float(np.abs(fp32 - int8).max()),
        rms_logit_difference=float(np.sqrt(((fp32 - int8) ** 2).mean())),
    )


def refuse_int8(costs: dict) -> None:
    """Refuse an int8 net that lost too much.

    Raises:
        UserError: naming what can be done.
    """
    if costs['points_lost'] <= costs['limit']:
        return
    raise UserError(
        f'int8 loses {costs["points_lost"]:.2f} points of balanced accuracy '
        f'on the validation split, more than --int8-limit '
        f'{costs["limit"]:g}; calibrate on more images, allow more, or give '
        '--no-int8; nothing was written'
    )


def same_probabilities(
    kind: str, tensors: np.ndarray, images: np.ndarray
) -> dict[str, float]:
    """Hold a graph that takes photographs against the one behind it.

    Args:
        kind: ``fp32_image`` or ``int8_image``.
        tensors: (N, C) probabilities on images resized by cv2.
        images: (N, C) on the photographs.

    Raises:
        UserError: they differ by more than the kind's limit.
    """
    difference = float(np.abs(tensors - images).max())
    limit = IMAGES[kind]
    if not difference <= limit:
        raise UserError(
            f'{kind}: the resize in the graph is not that of the training: '
            f'probabilities differ by {difference:.2e} (limit {limit:g}); '
            'nothing was written'
        )
    return dict(max=difference, limit=limit, images=len(images))
