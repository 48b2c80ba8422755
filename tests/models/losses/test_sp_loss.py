# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""SP against the paper's definition, written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.models.losses.relation_losses import SPLoss


def naive_sp(s, t):
    def matrix(x):
        rows = [a.ravel() for a in x]
        found = [[sum(a * b) for b in rows] for a in rows]
        return [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in found]

    g_s, g_t, n = matrix(s), matrix(t), len(s)
    return sum((g_t[i][j] - g_s[i][j]) ** 2 for i in range(n) for j in range(n)) / n**2


@pytest.mark.parametrize('n, seed', [(2, 0), (5, 1), (9, 2)])
def test_it_equals_the_paper(n, seed):
    rng = np.random.default_rng(seed)
    s, t = rng.normal(size=(n, 3, 4, 4)), rng.normal(size=(n, 5, 2, 2))
    found = SPLoss(loss_weight=3000.0)(torch.tensor(s).float(), torch.tensor(t).float())
    assert found.item() == pytest.approx(3000 * naive_sp(s, t), rel=1e-5)


def test_a_case_by_hand():
    # Student: (3, 0) and (0, 1): G = diag(9, 1), rows of length 1: identity.
    # Teacher: both (1, 0): all of G is 1, of the rows 1/sqrt(2) = h.
    # (2 (1 - h)^2 + 2 h^2) / 4 = (2 - 2h) / 2 = 1 - h
    s = torch.tensor([[3.0, 0], [0, 1]]).view(2, 2, 1, 1)
    t = torch.tensor([[1.0, 0], [1, 0]]).view(2, 2, 1, 1)
    assert SPLoss()(s, t).item() == pytest.approx(1 - math.sqrt(0.5))


def test_a_map_of_zeros_has_no_gradient_of_its_own():
    s = torch.randn(4, 2, 3, 3)
    s[1] = 0
    s.requires_grad_()
    SPLoss()(s, torch.randn(4, 2, 3, 3)).backward()
    assert s.grad.isfinite().all() and s.grad.abs().max() < 10
