# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""NormKDLoss against its formula, written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.kd_losses import NormKDLoss


def naive(s, t, tau):
    """Sample by sample, from the definitions."""
    total = 0.0
    for a, b in zip(s, t):
        tau_s, tau_t = (tau * np.std(x, ddof=1) for x in (a, b))
        p, q = (np.exp(x / T) for x, T in ((b, tau_t), (a, tau_s)))
        p, q = p / p.sum(), q / q.sum()
        total += tau_t**2 * sum(p[k] * math.log(p[k] / q[k]) for k in range(len(a)))
    return total / len(s)


@pytest.mark.parametrize('n, c, tau', [(5, 6, 2.0), (3, 3, 1.0), (2, 9, 4.0)])
def test_it_equals_the_formula(n, c, tau):
    rng = np.random.default_rng(c)
    s, t = rng.normal(size=(2, n, c)) * 3
    found = NormKDLoss(tau)(torch.tensor(s), torch.tensor(t))
    assert found.item() == pytest.approx(naive(s, t, tau), rel=1e-5)


def test_a_case_by_hand():
    # std(2, 0, -2) = 2 and std(-5, 0, 5) = 5; with tau = 1 / ln 2 the scores
    # become (ln 2, 0, -ln 2) and the reverse, so p_T = (4, 2, 1) / 7, p_S =
    # (1, 2, 4) / 7, KL = 4/7 ln 4 - 1/7 ln 4 = 0.594126, T_t^2 = (2 / ln 2)^2
    # = 8.325476, together 4.946382
    found = NormKDLoss(tau=1 / math.log(2))(
        torch.tensor([[-5.0, 0.0, 5.0]]), torch.tensor([[2.0, 0.0, -2.0]])
    )
    assert found.item() == pytest.approx(4.946382, abs=1e-4)


def test_the_size_of_the_students_scores_does_not_matter():
    s, t = torch.randn(2, 4, 6)
    loss = NormKDLoss()
    torch.testing.assert_close(loss(7 * s + 3, t), loss(s, t))


def test_equal_scores_divide_by_no_zero():
    for s, t in (
        (torch.zeros(2, 5), torch.randn(2, 5)),
        (torch.randn(2, 5), torch.full((2, 5), 3.0)),
        (torch.full((2, 5), -1.0), torch.zeros(2, 5)),
    ):
        s.requires_grad_()
        value = NormKDLoss()(s, t)
        value.backward()
        assert value.isfinite() and s.grad.isfinite().all()
        # eps bounds it: tau_t^2 (p_s - p_t) / (tau eps)
        assert s.grad.abs().max() < 4 * 25 / (2 * 1e-2)


def test_two_classes_leave_no_gradient_and_that_is_said():
    s = torch.randn(4, 2, requires_grad=True)
    with pytest.warns(UserWarning, match='2 classes.*KLLoss'):
        NormKDLoss()(s, torch.randn(4, 2)).backward()
    assert s.grad.abs().max() < 1e-5


@pytest.mark.parametrize('kwargs', [dict(tau=0.0), dict(eps=0.0)])
def test_values_out_of_range_name_the_key(kwargs):
    with pytest.raises(UserError, match=next(iter(kwargs))):
        NormKDLoss(**kwargs)
