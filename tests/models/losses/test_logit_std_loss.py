# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""LogitStdLoss against algorithm 1, in float64."""

import math

import numpy as np
import pytest
import torch
from naive_logits import batch, gradient, kl, run, softmax

from hkd_mm.errors import UserError
from hkd_mm.models.losses.kd_losses import LogitStdLoss, standardize


def z_score(z):
    mean = sum(z) / len(z)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in z) / len(z))
    return [(v - mean) / deviation for v in z]


@pytest.mark.parametrize('tau, weight', [(2.0, 9.0), (1.0, 1.0), (4.0, 0.5)])
@pytest.mark.parametrize('c', [3, 6, 100])
def test_the_formula(tau, weight, c):
    s, t, _ = batch(c=c)
    expected = np.mean(
        [
            kl(softmax(z_score(b), tau), softmax(z_score(a), tau))
            for a, b in zip(s, t, strict=True)
        ]
    )
    found = run(LogitStdLoss(tau, loss_weight=weight), s, t)
    assert found == pytest.approx(weight * tau**2 * expected, rel=1e-5)


def test_a_case_by_hand():
    # t = (1, 0, -1): mean 0, variance 2/3, z = (1.224745, 0, -1.224745),
    # p = (0.724548, 0.212896, 0.062556); s = (0, 0, 3): mean 1, variance 2,
    # z = (-0.707107, -0.707107, 1.414214), p = (0.096692, 0.096692,
    # 0.806616); KL = sum p_T ln(p_T / p_S) = 1.459254 + 0.168033 - 0.159944
    found = run(LogitStdLoss(tau=1.0), [[0, 0, 3]], [[1, 0, -1]])
    assert found == pytest.approx(1.467343, abs=1e-5)


@pytest.mark.parametrize('factor, shift', [(0.01, 0.0), (1.0, -4), (50, 7)])
def test_the_size_of_the_scores_says_nothing(factor, shift):
    s, t, _ = batch()
    expected = run(LogitStdLoss(), s, t)
    found = run(LogitStdLoss(), factor * s + shift, t)
    assert found == pytest.approx(expected, rel=1e-4)
    assert run(LogitStdLoss(), s, factor * s + shift) < 1e-5


def test_scores_are_bounded_as_the_paper_says():
    # one class against all others is the extreme: sqrt(C - 1) at tau 1
    for c in (2, 6, 100):
        scores = torch.eye(c)[:1] * 5
        assert standardize(scores).max().item() == pytest.approx(
            math.sqrt(c - 1), rel=1e-5
        )


def test_equal_scores_are_not_divided_by_zero():
    for level in (0.0, 3.0):
        s = np.full((2, 5), level)
        t = torch.randn(2, 5)
        found = gradient(lambda s, t=t: LogitStdLoss()(s, t), s)
        assert found.isfinite().all()


def test_two_classes_teach_nothing_and_warn():
    s, t, _ = batch(c=2, scale=1.0)
    t = torch.tensor(t, dtype=torch.float32)
    with pytest.warns(UserWarning, match='2 classes'):
        found = gradient(lambda s: LogitStdLoss()(s, t), s)
    assert found.abs().max() < 1e-5


def test_a_bad_temperature():
    with pytest.raises(UserError, match='tau'):
        LogitStdLoss(tau=0)
