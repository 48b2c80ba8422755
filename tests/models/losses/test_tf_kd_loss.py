# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""TfKDLoss against equations (8) and (9), written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.self_distill_losses import TfKDLoss


def naive(s, y, a, tau):
    total = 0.0
    for scores, label in zip(s, y):
        c = len(scores)
        p = [a if k == label else (1 - a) / (c - 1) for k in range(c)]
        soft = [value ** (1 / tau) for value in p]
        soft = [value / sum(soft) for value in soft]
        q = np.exp(scores / tau) / np.exp(scores / tau).sum()
        total += sum(soft[k] * math.log(soft[k] / q[k]) for k in range(c))
    return tau**2 * total / len(s)


@pytest.mark.parametrize(
    'n, c, a, tau', [(5, 6, 0.99, 20.0), (4, 2, 0.9, 4.0), (3, 8, 0.95, 1.0)]
)
def test_it_equals_the_equations(n, c, a, tau):
    rng = np.random.default_rng(c)
    s, y = rng.normal(size=(n, c)) * 3, rng.integers(0, c, n)
    found = TfKDLoss(a, tau)(torch.tensor(s), torch.tensor(y))
    assert found.item() == pytest.approx(naive(s, y, a, tau), rel=1e-5)


def test_a_case_by_hand():
    # a = 3/4, two classes, tau 1: p^d = (3/4, 1/4) against (1/2, 1/2):
    # 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812
    found = TfKDLoss(a=0.75, tau=1.0)(torch.zeros(1, 2), torch.tensor([0]))
    assert found.item() == pytest.approx(0.130812, abs=1e-6)


def test_a_student_that_is_the_virtual_teacher_is_left_alone():
    # scores log p^d, and any constant on top
    s = torch.full((1, 5), math.log(0.01 / 4) + 2)
    s[0, 3] = math.log(0.99) + 2
    s.requires_grad_()
    value = TfKDLoss()(s, torch.tensor([3]))
    value.backward()
    assert value.abs() < 1e-5 and s.grad.abs().max() < 1e-5


def test_the_temperature_does_not_take_the_gradient_away():
    sizes = []
    for tau in (1.0, 20.0):
        s = torch.zeros(1, 5, requires_grad=True)
        TfKDLoss(tau=tau)(s, torch.tensor([0])).backward()
        sizes.append(s.grad.norm().item())
    assert sizes[1] > 0.5 * sizes[0]


def test_mixed_targets_mix_the_virtual_teachers():
    s = torch.zeros(1, 3)
    target = torch.tensor([[0.5, 0.5, 0.0]])
    # p^d = (0.45, 0.45, 0.1) with a = 0.8 at tau 1; uniform student
    expected = 0.9 * math.log(1.35) + 0.1 * math.log(0.3)
    found = TfKDLoss(a=0.8, tau=1.0)(s, target)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    'kwargs', [dict(a=1.0), dict(a=0.0), dict(tau=0.0)]
)  # fmt: skip
def test_values_out_of_range_name_the_key(kwargs):
    with pytest.raises(UserError, match=next(iter(kwargs))):
        TfKDLoss(**kwargs)
