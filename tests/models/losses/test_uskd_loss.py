# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""USKDLoss against its formulas, written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.self_distill_losses import USKDLoss


def naive(s, y):
    """Target and non-target part, unweighted."""
    p = np.exp(s) / np.exp(s).sum(1, keepdims=True)
    mean = np.mean([p[i, y[i]] ** 2 for i in range(len(s))])
    target = others = 0.0
    for i, label in enumerate(y):
        right = p[i, label]
        target -= (1 + right**2 - mean) * math.log(right) / len(s)
        rest = [k for k in range(s.shape[1]) if k != label]
        mass = sum(p[i, k] for k in rest)
        order = sorted(rest, key=lambda k: -s[i, k])
        total = sum(1 / r for r in range(1, len(rest) + 1))
        for r, k in enumerate(order, start=1):
            others -= 1 / r / total * math.log(p[i, k] / mass) / len(s)
    return target, others


def found(loss, s, y):
    parts = loss(torch.tensor(s), torch.tensor(y))
    assert list(parts) == ['loss_target', 'loss_others']
    return tuple(value.item() for value in parts.values())


@pytest.mark.parametrize('n, c, alpha, beta', [(9, 6, 1.0, 0.1),
                                               (8, 3, 0.5, 2.0)])  # fmt: skip
def test_it_equals_the_formulas(n, c, alpha, beta):
    rng = np.random.default_rng(c)
    s, y = rng.normal(size=(n, c)) * 3, rng.integers(0, c, n)
    target, others = naive(s, y)
    assert found(USKDLoss(alpha, beta), s, y) == pytest.approx(
        (alpha * target, beta * others), rel=1e-5
    )


def test_class_weights_are_the_labels():
    rng = np.random.default_rng(0)
    s, y = rng.normal(size=(7, 3)) * 3, rng.integers(0, 3, 7)
    weight = [0.5, 3.0, 0.0]
    p = np.exp(s) / np.exp(s).sum(1, keepdims=True)
    mean = np.mean([p[i, y[i]] ** 2 for i in range(7)])
    target = -np.mean(
        [
            weight[k] * (1 + p[i, k] ** 2 - mean) * math.log(p[i, k])
            for i, k in enumerate(y)
        ]
    )
    parts = found(USKDLoss(1.0, 1.0, weight), s, y)
    assert parts == pytest.approx((target, naive(s, y)[1]), rel=1e-5)


def test_a_case_by_hand():
    # p = (1/2, 1/3, 1/6), label 0, twice: the squares equal their mean, so
    # the target is 1 and its part ln 2; Zipf (2/3, 1/3) against (2/3, 1/3):
    # 2/3 ln(3/2) + 1/3 ln 3 = 0.636514
    s = np.log([[3.0, 2.0, 1.0]] * 2)
    target, others = found(USKDLoss(beta=1.0), s, np.array([0, 0]))
    assert target == pytest.approx(math.log(2), abs=1e-6)
    assert others == pytest.approx(0.636514, abs=1e-6)


def test_ranks_are_of_the_other_classes_wherever_the_label_stands():
    # the label's score moves from first to last; the others keep theirs
    values = []
    for label in (9.0, 1.5, -9.0):
        s = np.array([[2.0, label, 1.0, 0.0]])
        values.append(found(USKDLoss(), s, np.array([1]))[1])
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)


def test_soft_labels_carry_no_gradient():
    s = torch.randn(8, 5, requires_grad=True)
    y = torch.arange(8) % 5
    USKDLoss(beta=0.0)(s, y)['loss_target'].backward()
    p = s.detach().softmax(1)
    right = p[range(8), y]
    smoothed = 1 + right**2 - (right**2).mean()
    one_hot = torch.nn.functional.one_hot(y, 5)
    expected = smoothed[:, None] * (p - one_hot) / 8
    torch.testing.assert_close(s.grad, expected)


def test_two_classes_have_no_order_and_that_is_said():
    with pytest.warns(UserWarning, match='2 classes'):
        _, others = found(USKDLoss(), np.zeros((8, 2)), np.arange(8) % 2)
    assert others == 0


@pytest.mark.parametrize('kwargs', [dict(alpha=-1.0), dict(beta=-1.0)])
def test_values_out_of_range_name_the_key(kwargs):
    with pytest.raises(UserError, match=next(iter(kwargs))):
        USKDLoss(**kwargs)
