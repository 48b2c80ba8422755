# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""PKT against the paper's definition, written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.models.losses.relation_losses import PKTLoss


def naive_pkt(s, t):
    def kernel(a, b):
        return (a @ b / math.sqrt((a @ a) * (b @ b)) + 1) / 2

    total, n = 0, len(s)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        p, q = (
            [
                kernel(x[i], x[j]) / sum(kernel(x[i], x[k]) for k in others)
                for j in others
            ]
            for x in (t, s)
        )
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / n


@pytest.mark.parametrize('n, seed', [(3, 0), (6, 1), (11, 2)])
def test_it_equals_the_paper(n, seed):
    rng = np.random.default_rng(seed)
    s, t = rng.normal(size=(n, 4)), rng.normal(size=(n, 6))
    found = PKTLoss(loss_weight=470.0)(torch.tensor(s).float(), torch.tensor(t).float())
    assert found.item() == pytest.approx(470 * naive_pkt(s, t), rel=1e-5)


def test_a_case_by_hand():
    # Student: right angles, so all cosines are 0, K is 1/2, p is (1/2, 1/2).
    # Teacher: a, a, b with b at a right angle: of both a the other a has
    # K = 1 and b has 1/2: p = (2/3, 1/3); of b p = (1/2, 1/2).
    # KL of the first two: 2/3 ln(4/3) + 1/3 ln(2/3) = 0.056633; mean 2/3 of it
    s, t = torch.eye(3), torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    by_hand = 2 / 3 * (2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3))
    assert by_hand == pytest.approx(0.037755, abs=1e-6)
    assert PKTLoss()(s, t).item() == pytest.approx(by_hand, rel=1e-5)


def test_an_image_is_not_its_own_neighbour():
    # of two images the other one is the only neighbour, whatever it is like
    s, t = torch.randn(2, 4), torch.randn(2, 4)
    assert PKTLoss()(s, t).item() == 0


def test_opposite_vectors_have_a_finite_loss():
    s = torch.tensor([[1.0, 0], [-1, 0], [0, 1]], requires_grad=True)
    value = PKTLoss()(s, torch.tensor([[1.0, 0], [1, 0], [0, 1]]))
    value.backward()
    assert value.isfinite() and s.grad.isfinite().all()
