# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DKDLoss against equation (7), in float64."""

import math

import numpy as np
import pytest
import torch
from naive_logits import batch, gradient, kl, run, softmax, without

from hkd_mm.errors import UserError
from hkd_mm.models.losses.dkd_losses import DKDLoss


def z_score(z):
    mean = sum(z) / len(z)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in z) / len(z))
    return [(v - mean) / deviation for v in z]


def naive(s, t, y, tau, alpha, beta):
    total = 0.0
    for a, b, label in zip(s, t, y, strict=True):
        in_s, in_t = softmax(a, tau)[label], softmax(b, tau)[label]
        tckd = kl([in_t, 1 - in_t], [in_s, 1 - in_s])
        nckd = kl(softmax(without(b, label), tau), softmax(without(a, label), tau))
        total += alpha * tckd + beta * nckd
    return tau**2 * total / len(s)


SETTINGS = [
    (4.0, 1.0, 8.0, 1.0),
    (1.0, 1.0, 0.5, 1.0),
    (3.0, 0.0, 2.0, 1.0),  # neither tau^2 nor beta is lost without alpha
    (2.0, 1.5, 0.0, 9.0),
]


@pytest.mark.parametrize('tau, alpha, beta, weight', SETTINGS)
@pytest.mark.parametrize('n', [1, 16])
def test_the_formula(tau, alpha, beta, weight, n):
    s, t, y = batch(n)
    found = run(DKDLoss(tau, alpha=alpha, beta=beta, loss_weight=weight), s, t, y)
    expected = weight * naive(s, t, y, tau, alpha, beta)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('tau, alpha, beta, weight', SETTINGS)
def test_the_formula_on_standardized_scores(tau, alpha, beta, weight):
    s, t, y = batch(n=16)
    loss = DKDLoss(tau, alpha, beta, standardize=True, loss_weight=weight)
    s_z, t_z = ([z_score(row) for row in z] for z in (s, t))
    expected = weight * naive(s_z, t_z, y, tau, alpha, beta)
    assert run(loss, s, t, y) == pytest.approx(expected, rel=1e-5)
    assert run(loss, 7 * s + 3, t, y) == pytest.approx(expected, rel=1e-5)


def test_a_case_by_hand():
    # p_T = (1/2, 1/4, 1/4), p_S = (1/4, 1/2, 1/4), label 0, tau 1:
    # TCKD = 1/2 ln 2 + 1/2 ln(2/3) = 0.143841; among the others T has
    # (1/2, 1/2), S has (2/3, 1/3): 1/2 ln(3/4) + 1/2 ln(3/2) = 0.058892
    data = np.log([[0.25, 0.5, 0.25]]), np.log([[0.5, 0.25, 0.25]]), [0]
    for alpha, beta in ((1, 0), (0, 1), (1, 8)):
        found = run(DKDLoss(1.0, alpha, beta), *data)
        expected = alpha * 0.143841 + beta * 0.058892
        assert found == pytest.approx(expected, abs=1e-5)


def test_plain_kd_is_beta_one_minus_the_teachers_label():
    # equation (6): KD = TCKD + (1 - p_T(label)) NCKD, one sample at a time
    for seed in range(4):
        s, t, y = batch(n=1, seed=seed)
        beta = 1 - softmax(t[0])[y[0]]
        found = run(DKDLoss(1.0, alpha=1.0, beta=beta), s, t, y)
        expected = kl(softmax(t[0]), softmax(s[0]))
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('more', [10.0, 1e3, 1e4])
def test_the_label_is_out_of_the_other_classes_whatever_its_score(more):
    s, t, y = batch()
    loss = DKDLoss(alpha=0.0)
    expected = run(loss, s, t, y)
    s[np.arange(len(y)), y] += more
    t[np.arange(len(y)), y] += more
    assert run(loss, s, t, y) == pytest.approx(expected, rel=1e-5)


def test_two_classes_leave_only_the_target_part():
    s, t, y = batch(c=2, scale=1.0)
    t, y = torch.tensor(t, dtype=torch.float32), torch.tensor(y)
    with pytest.warns(UserWarning, match='2 classes'):
        others = gradient(lambda s: DKDLoss(alpha=0.0)(s, t, y), s)
    with pytest.warns(UserWarning, match='alpha'):
        target = gradient(lambda s: DKDLoss(beta=0.0)(s, t, y), s)
    assert others.abs().max() == 0
    assert target.abs().max() > 1e-2


def test_two_standardized_classes_leave_nothing():
    s, t, y = batch(c=2, scale=1.0)
    t, y = torch.tensor(t, dtype=torch.float32), torch.tensor(y)
    loss = DKDLoss(standardize=True)
    with pytest.warns(UserWarning, match='nothing is learned'):
        found = gradient(lambda s: loss(s, t, y), s)
    assert found.abs().max() < 1e-5
    assert 'alpha' in DKDLoss().two_classes


@pytest.mark.parametrize('standardized', [False, True])
def test_extreme_scores_stay_finite(standardized):
    for scale in (1e4, 1e-4, 0.0):
        s, t, y = batch(scale=scale)
        t, y = torch.tensor(t, dtype=torch.float32), torch.tensor(y)
        loss = DKDLoss(standardize=standardized)
        found = gradient(lambda s, f=loss, t=t, y=y: f(s, t, y), s)
        assert found.isfinite().all()


@pytest.mark.parametrize('word, value', [('tau', 0), ('alpha', -1.0), ('beta', -0.1)])
def test_values_out_of_range(word, value):
    with pytest.raises(UserError, match=word):
        DKDLoss(**{word: value})
