# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""RLDLoss against the paper, in float64."""

import numpy as np
import pytest
import torch
from naive_logits import batch, gradient, kl, run, softmax

from hkd_mm.errors import UserError
from hkd_mm.models.losses.dkd_losses import DKDLoss, RLDLoss


def naive(s, t, y, tau, tau_top, alpha, beta):
    total = 0.0
    for a, b, label in zip(s, t, y, strict=True):
        mine, other = softmax(a, tau_top)[label], max(softmax(b, tau_top))
        total += alpha * tau_top**2 * kl([other, 1 - other], [mine, 1 - mine])
        kept = [c for c in range(len(b)) if b[c] < b[label]]
        if kept:
            below = (softmax([z[c] for c in kept], tau) for z in (b, a))
            total += beta * tau**2 * kl(*below)
    return total / len(s)


@pytest.mark.parametrize(
    'tau, tau_top, alpha, beta',
    [(4, 4, 1, 8), (1, 1, 1, 0.5), (2, 3, 0, 1), (4, 1, 2, 0)],
)
@pytest.mark.parametrize('n, c', [(1, 6), (16, 6), (16, 3), (4, 2)])
def test_the_formula(tau, tau_top, alpha, beta, n, c):
    s, t, y = batch(n, c)
    found = run(RLDLoss(tau, tau_top, alpha, beta, loss_weight=2.0), s, t, y)
    expected = 2 * naive(s, t, y, tau, tau_top, alpha, beta)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_case_by_hand():
    # the teacher names class 0 with 0.66524, the student has 1/3 for label 1; of
    # the one class below the label nothing can be said
    s, t = [[0.0, 0.0, 0.0]], [[2.0, 1.0, 0.0]]
    assert run(RLDLoss(1, 1), s, t, [1]) == pytest.approx(0.22908, abs=1e-5)
    assert run(RLDLoss(1, 1, alpha=0), s, t, [1]) == 0


def test_with_a_right_teacher_it_is_dkd():
    s, t, _ = batch(n=9)
    y = t.argmax(1)
    expected = run(DKDLoss(4.0, 1.0, 8.0), s, t, y)
    assert run(RLDLoss(), s, t, y) == pytest.approx(expected, rel=1e-5)


def test_what_a_wrong_teacher_holds_likelier_is_not_taught():
    s, t, y = batch(n=9)
    others = [(t_i >= t_i[k]) & (np.arange(6) != k) for t_i, k in zip(t, y)]
    found = gradient(
        lambda s: RLDLoss(alpha=0.0)(s, torch.tensor(t), torch.tensor(y)), s
    )
    assert np.any(others) and (found[torch.tensor(np.array(others))] == 0).all()


@pytest.mark.parametrize('gap', [120.0, 1e4])
def test_a_student_that_is_sure_of_a_wrong_class(gap):
    # the authors' code has no number here
    s, t = [[gap, 0.0, 0.0]], torch.tensor([[0.0, 2.0, 1.0]])
    loss = RLDLoss(1, 1)
    found = gradient(lambda s: loss(s, t, torch.tensor([1])), s)
    assert found.isfinite().all() and found[0, 1] < 0


@pytest.mark.parametrize('key, value', [('tau_top', 0), ('beta', -1.0)])
def test_values_out_of_range(key, value):
    with pytest.raises(UserError, match=key):
        RLDLoss(**{key: value})
