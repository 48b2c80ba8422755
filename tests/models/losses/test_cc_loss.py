# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""CC against the paper's definition, written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.relation_losses import CCLoss


def naive_cc(s, t, gamma, order):
    def kernel(a, b):
        cosine = a @ b / math.sqrt((a @ a) * (b @ b))
        return math.exp(-2 * gamma) * sum(
            (2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1)
        )

    n = len(s)
    return (
        sum(
            (kernel(t[i], t[j]) - kernel(s[i], s[j])) ** 2
            for i in range(n)
            for j in range(n)
        )
        / n**2
    )


def found_cc(s, t, *args, **kwargs):
    return CCLoss(*args, **kwargs)(
        *(torch.as_tensor(x, dtype=torch.float32) for x in (s, t))
    ).item()


@pytest.mark.parametrize('n, gamma, order', [(2, 0.4, 2), (5, 0.4, 1), (9, 1.5, 4)])
def test_it_equals_the_paper(n, gamma, order):
    rng = np.random.default_rng(n)
    s, t = rng.normal(size=(n, 4)), rng.normal(size=(n, 6))
    assert found_cc(s, t, gamma, order, loss_weight=100.0) == pytest.approx(
        100 * naive_cc(s, t, gamma, order), rel=1e-5
    )


def test_a_case_by_hand():
    # Student: a right angle, teacher: the same direction. Of order 1 and
    # gamma 1/2 the kernel is e^-1 (1 + cosine): off the diagonal the gap is
    # e^-1, half of the entries: e^-2 / 2 = 0.067668.
    s, t = [[2.0, 0], [0, 3]], [[1.0, 1], [4, 4]]
    assert found_cc(s, t, 0.5, 1) == pytest.approx(0.067668, abs=1e-6)


def test_many_powers_are_the_gaussian_kernel():
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))

    def kernel(x):
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        return np.exp(-0.4 * ((x[:, None] - x) ** 2).sum(-1))

    expected = np.mean((kernel(s) - kernel(t)) ** 2)
    assert found_cc(s, t, 0.4, 12) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    'kwargs, key',
    [
        (dict(gamma=0), 'gamma'),
        (dict(order=0), 'order'),
        (dict(order=1.5), 'order'),
    ],
)
def test_values_out_of_range_name_the_key(kwargs, key):
    with pytest.raises(UserError, match=key):
        CCLoss(**kwargs)
