# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""WSLDLoss against the paper's formula, in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from naive_logits import (
    batch,
    cross_entropy,
    gradient,
    kl,
    mixed_targets,
    run,
    softmax,
)

from hkd_mm.errors import UserError
from hkd_mm.models.losses.dkd_losses import WSLDLoss


def naive(s, t, y, tau):
    total = 0.0
    for i in range(len(s)):
        weight = 1 - math.exp(-cross_entropy(s[i], y[i]) / cross_entropy(t[i], y[i]))
        total += weight * kl(softmax(t[i], tau), softmax(s[i], tau))
    return tau**2 * total / len(s)


@pytest.mark.parametrize('tau, weight', [(2.0, 2.5), (4.0, 2.25), (1.0, 1.0)])
@pytest.mark.parametrize('mixed', [False, True])
def test_the_formula(tau, weight, mixed):
    s, t, y = batch()
    y = mixed_targets() if mixed else y
    found = run(WSLDLoss(tau, loss_weight=weight), s, t, y)
    assert found == pytest.approx(weight * naive(s, t, y, tau), rel=1e-5)


def test_a_case_by_hand():
    # p_T = (3/4, 1/4), p_S = (1/2, 1/2), label 0, tau 1: CE_S = ln 2,
    # CE_T = ln(4/3), w = 1 - exp(-0.693147 / 0.287682) = 0.910133,
    # KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812; w KL = 0.119056
    found = run(WSLDLoss(tau=1.0), [[0, 0]], [[math.log(3), 0]], [0])
    assert found == pytest.approx(0.119056, abs=1e-6)


def test_its_gradient_is_that_of_the_papers_soft_cross_entropy():
    s, t, y = batch()
    t, y, tau = torch.tensor(t, dtype=torch.float32), torch.tensor(y), 2.0

    def papers(s):
        ratio = F.cross_entropy(s, y, reduction='none') / F.cross_entropy(
            t, y, reduction='none'
        )
        weight = 1 - torch.exp(-ratio.detach())
        soft = -(F.softmax(t / tau, 1) * F.log_softmax(s / tau, 1)).sum(1)
        return tau**2 * (weight * soft).mean()

    torch.testing.assert_close(
        gradient(lambda s: WSLDLoss(tau)(s, t, y), s),
        gradient(papers, s),
        rtol=1e-4,
        atol=1e-6,
    )


def test_a_perfect_student_has_no_loss():
    s, _, y = batch()
    assert run(WSLDLoss(), s, s, y) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize('surest, expected', [('t', 1.0), ('s', 0.0)])
def test_who_is_sure_decides_the_weight(surest, expected):
    # teacher sure: all of the divergence; student sure: nothing of it
    rows = dict(s=[[0.0, 1.0, 0.0]], t=[[1.0, 0.0, 0.0]])
    rows[surest] = [[60.0, 0.0, 0.0]]
    found = run(WSLDLoss(1.0), rows['s'], rows['t'], [0])
    whole = kl(softmax(rows['t'][0]), softmax(rows['s'][0]))
    assert found == pytest.approx(expected * whole, rel=1e-5, abs=1e-6)


def test_any_class_count_without_being_told():
    for c in (2, 7, 1000):
        s, t, y = batch(c=c)
        assert np.isfinite(run(WSLDLoss(), s, t, y))


@pytest.mark.parametrize('tau', [0, -2.0])
def test_a_bad_temperature(tau):
    with pytest.raises(UserError, match='tau'):
        WSLDLoss(tau=tau)
