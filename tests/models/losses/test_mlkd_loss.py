# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MLKDLoss against its formulas, written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.correlation_losses import MLKDLoss


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def least_confident(values, quantile):
    bound = np.percentile(values, 100 * quantile)
    return [i for i, value in enumerate(values) if value <= bound]


def naive(s, t, taus, quantile):
    """Three levels with plain loops."""
    n, c = s.shape
    sure = softmax(t)
    samples = least_confident(sure.max(1), quantile)
    classes = least_confident(sure.sum(0), quantile)
    levels = [0.0, 0.0, 0.0]
    for tau in taus:
        p, q = softmax(t / tau), softmax(s / tau)
        for i in samples:
            levels[0] += (
                tau**2
                * sum(p[i, k] * math.log(p[i, k] / q[i, k]) for k in range(c))
                / len(samples)
            )
            for j in range(n):
                gap = sum(p[i, k] * p[j, k] - q[i, k] * q[j, k]
                          for k in range(c))  # fmt: skip
                levels[1] += gap**2 / len(samples)
        for k in classes:
            for m in range(c):
                gap = sum(p[i, k] * p[i, m] - q[i, k] * q[i, m]
                          for i in range(n))  # fmt: skip
                levels[2] += gap**2 / len(classes)
    return levels


def found(loss, s, t):
    parts = loss(torch.tensor(s), torch.tensor(t))
    assert list(parts) == ['loss_instance', 'loss_batch', 'loss_classes']
    return [value.item() for value in parts.values()]


def scores(n=7, c=5, seed=0):
    return np.random.default_rng(seed).normal(size=(2, n, c)) * 3


@pytest.mark.parametrize(
    'n, c, taus, quantile',
    [
        (7, 5, (2.0, 3.0, 4.0, 5.0, 6.0), 0.5),
        (6, 4, (1.0,), 1.0),
        (5, 8, (4.0, 2.0), 0.3),
    ],
)
def test_it_equals_the_formulas(n, c, taus, quantile):
    s, t = scores(n, c)
    assert found(MLKDLoss(taus, quantile=quantile), s, t) == pytest.approx(
        naive(s, t, taus, quantile), rel=1e-5
    )


def test_a_case_by_hand():
    # p_T = (3/4, 1/4), p_S = (1/2, 1/2), one sample: KL = 0.130812;
    # batch (9/16 + 1/16 - 1/2)^2 = 1/64; the outer products are
    # (9, 3; 3, 1)/16 and (4, 4; 4, 4)/16: squares (25+1)/256, (1+9)/256,
    # mean over both classes 18/256
    parts = found(
        MLKDLoss((1.0,), quantile=1.0),
        np.zeros((1, 2)),
        np.array([[math.log(3.0), 0.0]]),
    )
    assert parts == pytest.approx([0.130812, 1 / 64, 18 / 256], abs=1e-6)


def test_the_mask_chooses_samples_and_does_not_scale():
    # three sure samples, whose student is far off, and three unsure ones,
    # whose student agrees: only the unsure count
    t = np.zeros((6, 4))
    t[:3, 0], t[3:, 1] = 9.0, 0.5
    s = t.copy()
    s[:3] = s[:3, ::-1]
    masked = found(MLKDLoss(quantile=0.5, beta=0, gamma=0), s, t)
    full = found(MLKDLoss(quantile=1.0, beta=0, gamma=0), s, t)
    assert masked[0] == pytest.approx(0, abs=1e-6) and full[0] > 1
    # no gradient reaches the samples that are left out
    preds = torch.tensor(s, dtype=torch.float32, requires_grad=True)
    loss = MLKDLoss(quantile=0.5, beta=0, gamma=0)
    swapped = torch.tensor(t[::-1].copy())
    loss(preds, swapped)['loss_instance'].backward()
    rows = preds.grad.abs().sum(1) > 1e-7
    assert rows.tolist() == [True] * 3 + [False] * 3


def test_the_mask_chooses_classes():
    # the teacher's probability lies with classes 0 and 1: the class level
    # sees the rows of 2 and 3 alone
    s, t = scores(c=4)
    t[:, :2] += 20
    value = found(MLKDLoss((1.0,), quantile=0.5), s, t)[2]
    p, q = softmax(t), softmax(s)
    gap = (p.T @ p - q.T @ q) ** 2
    assert value == pytest.approx(gap[2:].sum() / 2, rel=1e-5)


def test_each_temperature_counts_once():
    s, t = scores()
    one, two, both = (
        np.array(found(MLKDLoss(taus), s, t)) for taus in ((2.0,), (6.0,), (2.0, 6.0))
    )
    assert both == pytest.approx(one + two, rel=1e-5)


@pytest.mark.parametrize(
    'kwargs', [dict(taus=()), dict(taus=(0.0,)), dict(alpha=-1),
               dict(beta=-1), dict(gamma=-1), dict(quantile=0)]
)  # fmt: skip
def test_values_out_of_range_name_the_key(kwargs):
    with pytest.raises(UserError, match=next(iter(kwargs))):
        MLKDLoss(**kwargs)
