# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""TTM, WTTM, ABKD and OFA against their papers, in float64."""

import math

import numpy as np
import pytest
import torch
from naive_logits import batch, entropy, gradient, kl, mixed_targets, run, softmax

from hkd_mm.errors import UserError
from hkd_mm.models.losses.divergence_losses import ABKDLoss, OFALoss, TTMLoss
from hkd_mm.models.losses.kd_losses import KLLoss


def naive_ttm(s, t, gamma, weighted):
    total = 0.0
    for a, b in zip(s, t, strict=True):
        raised = [p**gamma for p in softmax(b)]
        whole = sum(raised)
        weight = whole / len(a) ** (1 - gamma) if weighted else 1
        total += weight * kl([p / whole for p in raised], softmax(a))
    return total / len(s)


@pytest.mark.parametrize('gamma', [0.1, 0.25, 1.0])
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('n, c', [(7, 6), (1, 2)])
def test_ttm_is_the_formula(gamma, weighted, n, c):
    s, t, _ = batch(n, c)
    found = run(TTMLoss(gamma, weighted, loss_weight=45.0), s, t)
    assert found == pytest.approx(45 * naive_ttm(s, t, gamma, weighted), rel=1e-5)


def test_ttm_by_hand():
    # p = (0.9, 0.1), gamma 1/2: shares (3/4, 1/4) of U = 1.26491, from (1/2, 1/2)
    s, t = [[0.0, 0.0]], [[math.log(9), 0.0]]
    assert run(TTMLoss(0.5), s, t) == pytest.approx(0.13081, abs=1e-5)
    paper = run(TTMLoss(0.5, True), s, t) * math.sqrt(2)  # weighed by U alone
    assert paper == pytest.approx(0.16547, abs=1e-5)


def test_a_power_of_one_is_plain_kd():
    s, t, _ = batch()
    expected = run(KLLoss(1.0), s, t)
    for weighted in (False, True):
        assert run(TTMLoss(1.0, weighted), s, t) == pytest.approx(expected, rel=1e-5)


def naive_abkd(s, t, tau, a, b):
    total = 0.0
    for z, other in zip(s, t, strict=True):
        for q, p in zip(softmax(z, tau), softmax(other, tau), strict=True):
            total -= (
                p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)
            ) / (a * b)
    return tau**2 * total / len(s)


@pytest.mark.parametrize('tau', [1.0, 4.0])
@pytest.mark.parametrize('a, b', [(0.8, 0.3), (0.5, 0.5), (1.0, 1.0), (0.3, 1.5)])
def test_abkd_is_the_formula(tau, a, b):
    s, t, _ = batch(9)
    found = run(ABKDLoss(tau, a, b, loss_weight=2.0), s, t)
    assert found == pytest.approx(2 * naive_abkd(s, t, tau, a, b), rel=1e-4)


def test_abkd_by_hand_and_its_neighbours():
    # (3/4, 1/4) from (1/2, 1/2), a = b = 1/2: 4 (1 - sum sqrt(p q))
    s, t = [[0.0, 0.0]], np.log([[0.75, 0.25]])
    assert run(ABKDLoss(1.0, 0.5, 0.5), s, t) == pytest.approx(0.13630, abs=1e-5)
    s, t, _ = batch(scale=1.0)
    near = run(ABKDLoss(4.0, 1.0, 1e-2), s, t)
    assert near == pytest.approx(run(KLLoss(4.0), s, t), rel=0.03)
    near = run(ABKDLoss(4.0, 1e-2, 1.0), s, t)
    assert near == pytest.approx(run(KLLoss(4.0), t, s), rel=0.03)


def naive_ofa(s, t, y, exponent, tau):
    total = 0.0
    for z, other, label in zip(s, t, y, strict=True):
        q, p = softmax(z, tau), softmax(other, tau)
        for c, (mine, theirs) in enumerate(zip(q, p, strict=True)):
            own = label[c] if np.ndim(label) else float(c == label)
            total -= ((theirs + own) ** exponent - own) * math.log(mine)
    return tau**2 * total / len(s)


@pytest.mark.parametrize('exponent, tau', [(1.5, 1.0), (1.0, 4.0), (2.0, 2.0)])
@pytest.mark.parametrize('mixed', [False, True])
def test_ofa_is_the_formula(exponent, tau, mixed):
    s, t, y = batch()
    y = mixed_targets() if mixed else y
    found = run(OFALoss(tau, exponent, loss_weight=3.0), s, t, y)
    assert found == pytest.approx(3 * naive_ofa(s, t, y, exponent, tau), rel=1e-5)


def test_ofa_by_hand():
    # p = (3/4, 1/4), label 0, q = (1/2, 1/2): log 2 and 2.125 log 2
    s, t = [[0.0, 0.0]], np.log([[0.75, 0.25]])
    for exponent, factor in ((1.0, 1.0), (2.0, 2.125)):
        found = run(OFALoss(1.0, exponent), s, t, [0])
        assert found == pytest.approx(factor * math.log(2), rel=1e-5)
    s, t, y = batch()
    rest = np.mean([entropy(softmax(z)) for z in t])
    expected = run(KLLoss(1.0), s, t) + rest
    assert run(OFALoss(1.0, 1.0), s, t, y) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('loss', [TTMLoss(), TTMLoss(0.2, True), ABKDLoss(), OFALoss()])
@pytest.mark.parametrize('gap', [120.0, 1e4])
def test_a_student_that_is_sure_of_a_wrong_class(loss, gap):
    t, labels = torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([1])
    given = (t, labels) if isinstance(loss, OFALoss) else (t,)
    found = gradient(lambda s: loss(s, *given), [[gap, 0.0, 0.0]])
    assert found.isfinite().all()


@pytest.mark.parametrize(
    'kind, key, value',
    [(TTMLoss, 'gamma', 1.5), (ABKDLoss, 'alpha', 0.0), (OFALoss, 'exponent', -1.0)],
)
def test_values_out_of_range(kind, key, value):
    with pytest.raises(UserError, match=key):
        kind(**{key: value})
