# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Calibration of probabilities: reliability, ECE, temperature scaling.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017,
https://arxiv.org/abs/1706.04599. ``labels`` are (N,) ints, ``scores`` (N, C)
probabilities; probabilities below ``least`` count as ``least``.
"""

from typing import NamedTuple

import numpy as np

BOUNDS = (0.05, 20.0)  # of the temperatures that are tried
_NEAR = 1.2  # of a bound
_LEAST = 1e-7  # probabilities are written with six digits


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """``softmax(logits / temperature)`` over the second axis of (N, C, ...) floats."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def tempered(
    scores: np.ndarray, temperature: float, least: float = _LEAST
) -> np.ndarray:
    """Probabilities whose logits are divided by a temperature."""
    return softmax(np.log(np.maximum(scores, least)), temperature)


def log_loss(scores: np.ndarray, labels: np.ndarray, least: float = _LEAST) -> float:
    """Mean negative log-likelihood, in nats."""
    own = scores[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, least)).mean())


def fit_temperature(
    scores: np.ndarray, labels: np.ndarray, least: float = _LEAST
) -> float:
    """Temperature within ``BOUNDS`` of the least log loss (section 4.2).

    Scores and labels must not be those of the test split.
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda power: log_loss(tempered(scores, np.exp(power), least), labels, least),
        bounds=tuple(np.log(BOUNDS)),
        method='bounded',
        options=dict(xatol=1e-6),
    )
    return float(np.exp(found.x))


def temperature_note(
    temperature: float, scores: np.ndarray, labels: np.ndarray
) -> str | None:
    """Calibration warning of a temperature fitted on scores, or None."""
    least, most = BOUNDS
    if (scores.argmax(1) == labels).all():
        return (
            f'no validation image is answered wrongly, so temperature '
            f'{temperature:.3g} and threshold are guesses: nothing shows how '
            'confident wrong answers are'
        )
    if least * _NEAR < temperature < most / _NEAR:
        return None
    return (
        f'temperature {temperature:.3g} is near an end of what is tried '
        f'({least:g} to {most:g}): the probabilities are not calibrated'
    )


class ReliabilityBins(NamedTuple):
    """Equal-width bins of the confidence that are not empty."""

    confidence: np.ndarray  # mean of each bin
    accuracy: np.ndarray  # share of right predictions
    counts: np.ndarray  # images


def reliability(scores: np.ndarray, labels: np.ndarray, bins: int) -> ReliabilityBins:
    """Confidence (probability of the predicted class) against accuracy.

    Bin b of ``bins`` is ``((b - 1) / bins, b / bins]``.
    """
    confidence = scores.max(1).astype(np.float64)
    right = scores.argmax(1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    kept = counts > 0
    means = [
        np.bincount(index, values, bins)[kept] / counts[kept]
        for values in (confidence, right)
    ]
    return ReliabilityBins(*means, counts[kept])


def expected_calibration_error(
    scores: np.ndarray, labels: np.ndarray, bins: int = 15
) -> float:
    """``sum_b |B_b| / N * |acc(B_b) - conf(B_b)|`` (eq. 3), in [0, 1]; 0 is best."""
    found = reliability(scores, labels, bins)
    gaps = np.abs(found.accuracy - found.confidence)
    return float((found.counts * gaps).sum() / len(labels))
