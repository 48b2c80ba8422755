# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""NKDLoss against the paper's formula, in float64."""

import math

import numpy as np
import pytest
import torch
from naive_logits import batch, entropy, gradient, kl, run, softmax, without

from hkd_mm.errors import UserError
from hkd_mm.models.losses.dkd_losses import NKDLoss
from hkd_mm.models.losses.label_losses import HardLabelLoss


def naive(s, t, y, tau, gamma):
    total = 0.0
    for a, b, label in zip(s, t, y, strict=True):
        mine, other = (softmax(without(z, label), tau) for z in (a, b))
        total -= softmax(b)[label] * math.log(softmax(a)[label])
        total += gamma * tau**2 * kl(other, mine)
    return total / len(s)


@pytest.mark.parametrize(
    'tau, gamma, weight',
    [(1.0, 1.5, 1.0), (3.0, 1.5, 1.0), (2.0, 0.0, 1.0), (4.0, 0.3, 2.0)],
)
def test_the_formula(tau, gamma, weight):
    s, t, y = batch(n=9)
    found = run(NKDLoss(tau, gamma, loss_weight=weight), s, t, y)
    expected = weight * naive(s, t, y, tau, gamma)
    assert found == pytest.approx(expected, rel=1e-5)


def test_with_the_hard_label_it_is_the_paper_less_the_teachers_entropy():
    tau, gamma = 2.0, 1.5
    s, t, y = batch(n=5)
    paper = rest = 0.0
    for a, b, label in zip(s, t, y, strict=True):
        mine, other = (softmax(without(z, label), tau) for z in (a, b))
        log_s = math.log(softmax(a)[label])
        paper += -log_s - softmax(b)[label] * log_s
        paper -= (
            gamma
            * tau**2
            * sum(q * math.log(p) for p, q in zip(mine, other, strict=True))
        )
        rest += gamma * tau**2 * entropy(other)
    hard = HardLabelLoss()(torch.tensor(s), torch.tensor(y)).item()
    found = run(NKDLoss(tau, gamma), s, t, y) + hard
    assert found == pytest.approx((paper - rest) / 5, rel=1e-5)


def test_a_case_by_hand():
    # p_T = (1/2, 1/4, 1/4), p_S = (1/4, 1/2, 1/4), label 0, tau 1:
    # -1/2 ln(1/4) = 0.693147; among the others T has (1/2, 1/2), S has
    # (2/3, 1/3): KL = 1/2 ln(3/4) + 1/2 ln(3/2) = 0.058892, times 1.5
    found = run(
        NKDLoss(),
        np.log([[0.25, 0.5, 0.25]]),
        np.log([[0.5, 0.25, 0.25]]),
        [0],
    )
    assert found == pytest.approx(0.693147 + 1.5 * 0.058892, abs=1e-5)


def test_two_classes_leave_only_the_label():
    s, t, y = batch(c=2, scale=1.0)
    t, y = torch.tensor(t, dtype=torch.float32), torch.tensor(y)
    with pytest.warns(UserWarning, match='2 classes'):
        found = gradient(lambda s: NKDLoss(gamma=5.0)(s, t, y), s)
    with pytest.warns(UserWarning, match='gamma'):
        without_others = gradient(lambda s: NKDLoss(gamma=0.0)(s, t, y), s)
    torch.testing.assert_close(found, without_others)
    assert found.abs().max() > 1e-2


@pytest.mark.parametrize('more', [1e3, 1e4])
def test_the_label_is_out_of_the_other_classes_whatever_its_score(more):
    s, t, y = batch()
    s[np.arange(len(y)), y] += more
    t[np.arange(len(y)), y] += more
    expected = np.mean(
        [
            kl(softmax(without(b, k)), softmax(without(a, k)))
            for a, b, k in zip(s, t, y, strict=True)
        ]
    )  # log S_y is 0 by then
    found = run(NKDLoss(gamma=1.0), s, t, y)
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize('word, value', [('tau', 0), ('gamma', -1.0)])
def test_values_out_of_range(word, value):
    with pytest.raises(UserError, match=word):
        NKDLoss(**{word: value})
