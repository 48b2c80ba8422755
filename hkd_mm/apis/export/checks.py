# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Whether the files answer as the trained net does, on validation images."""

from collections.abc import Sequence

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.classification_scores import classification_scores

ONE_SIDED = 1.645  # standard errors: 5 % of chance lies above
LOGITS = 1e-4  # of the largest logit, or of 1 where that is smaller
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
        ``max``, the largest difference, the ``scale`` and the ``limit``.

    Raises:
        UserError: they differ by more than the limit, or are not finite.
    """
    difference = float(np.abs(trained - graph).max())
    return close(difference, float(np.abs(trained).max()), wrong, then)


def close(
    difference: float,
    largest: float,
    wrong: str = 'the ONNX graph is not the trained net',
    then: str = 'nothing was written',
) -> dict[str, float]:
    """As :func:`same_logits`, of the largest difference and logit."""
    scale = max(1.0, largest)
    limit = LOGITS * scale
    if not difference <= limit:
        raise UserError(
            f'{wrong}: logits differ by {difference:.2e} (limit '
            f'{limit:.2e}); {then}'
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
    fp32: np.ndarray,
    int8: np.ndarray,
    labels: np.ndarray,
    measured: dict[str, dict],
    limit: float,
) -> dict:
    """What int8 costs.

    ``points_lost`` and their standard error are of balanced accuracy. The
    error is that of other validation images: of each class the answers that
    turned wrong less those that turned right, their variance over its
    images.

    Args:
        fp32: (N, C) logits.
        int8: (N, C) logits.
        labels: (N,) int.
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
        standard_error=100 * _standard_error(fp32, int8, labels),
        limit=limit,
        worst_recall_points_lost=max(losses),
        same_answers=float((fp32.argmax(1) == int8.argmax(1)).mean()),
        max_logit_difference=float(np.abs(fp32 - int8).max()),
        rms_logit_difference=float(np.sqrt(((fp32 - int8) ** 2).mean())),
    )


def _standard_error(
    fp32: np.ndarray, int8: np.ndarray, labels: np.ndarray
) -> float:
    """Of the difference of two balanced accuracies on the same images."""
    lost = (fp32.argmax(1) == labels).astype(float)
    lost -= int8.argmax(1) == labels
    parts = [lost[labels == label] for label in np.unique(labels)]
    # an error rate of none or all of two images says nothing of the rest
    variances = [p.var(ddof=1) / len(p) for p in parts if len(p) > 1]
    return float(np.sqrt(sum(variances)) / len(parts))


def refuse_int8(costs: dict, score: str = 'balanced accuracy') -> str:
    """Refuse an int8 net that lost too much.

    More than the limit is too much where chance does not explain it: where
    the loss is above zero in a one-sided test at 5 %. A few validation
    images cannot tell a loss of a point from none.

    Args:
        costs: ``points_lost``, their ``standard_error`` and the ``limit``.
        score: what they are points of.

    Returns:
        What to tell of a loss above the limit that may be chance, else ''.

    Raises:
        UserError: naming what can be done.
    """
    lost, error = costs['points_lost'], costs['standard_error']
    if lost <= costs['limit']:
        return ''
    told = (
        f'int8 loses {lost:.2f} points of {score} on the validation split '
        f'(standard error {error:.2f}), more than '
        f'--int8-limit {costs["limit"]:g}'
    )
    if lost <= ONE_SIDED * error:
        return f'{told}; that may be chance: more images would tell'
    raise UserError(
        f'{told}; calibrate on more images, allow more, or give --no-int8; '
        'nothing was written'
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
