# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Temperature scaling of probabilities."""

import numpy as np

BOUNDS = (0.05, 20.0)  # of the temperatures that are tried
_LEAST = 1e-7  # probabilities are written with six digits


def tempered(
    scores: np.ndarray, temperature: float, least: float = _LEAST
) -> np.ndarray:
    """``softmax(log(scores) / temperature)``: the logits divided by it.

    Args:
        scores: (N, C) probabilities.
        temperature: > 0; above 1 makes them less sure.
        least: smaller probabilities count as this.
    """
    logits = np.log(np.maximum(scores, least)) / temperature
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def log_loss(
    scores: np.ndarray, labels: np.ndarray, least: float = _LEAST
) -> float:
    """Mean negative log-likelihood, in nats.

    Args:
        scores: (N, C) probabilities.
        labels: (N,) int.
        least: smaller probabilities count as this.
    """
    own = scores[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, least)).mean())


def fit_temperature(
    scores: np.ndarray, labels: np.ndarray, least: float = _LEAST
) -> float:
    """The temperature of the least negative log-likelihood.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017,
    section 4.2.

    Args:
        scores: (N, C) probabilities of images that are not the test's.
        labels: (N,) int.
        least: smaller probabilities count as this.

    Returns:
        Within ``BOUNDS``.
    """
    from scipy.optimize import minimize_scalar

    def loss(power: float) -> float:
        return log_loss(tempered(scores, np.exp(power), least), labels, least)

    found = minimize_scalar(
        loss,
        bounds=tuple(np.log(BOUNDS)),
        method='bounded',
        options=dict(xatol=1e-6),
    )
    return float(np.exp(found.x))
