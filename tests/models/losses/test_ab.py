# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ABLoss against its definition, written out in float64."""

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.hint_losses import ABLoss


def naive(s, t, margin):
    total = 0.0
    for mine, other in zip(s.ravel(), t.ravel()):
        if other > 0 and mine < margin:
            total += (margin - mine) ** 2
        if other <= 0 and mine > -margin:
            total += (margin + mine) ** 2
    return total / s.size


@pytest.mark.parametrize(
    'shape, margin, relu',
    [
        ((4, 3, 5, 5), 1.0, False),
        ((2, 9), 0.3, False),
        ((3, 4, 2, 2), 2.0, True),
    ],
)
def test_it_equals_the_paper(shape, margin, relu):
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=shape) * 2, rng.normal(size=shape)
    if relu:
        t = np.maximum(t, 0)
    found = ABLoss(margin)(*(torch.as_tensor(a, dtype=torch.float32) for a in (s, t)))
    assert found.item() == pytest.approx(naive(s, t, margin), rel=1e-5)


def test_a_case_by_hand():
    # on: (1 - 0.5)^2 = 0.25, 2 is beyond the margin: 0;
    # off: (1 + 0.5)^2 = 2.25, -3 is beyond it: 0; a zero counts as off:
    # (1 + 0)^2 = 1; mean of five: 3.5 / 5
    s = torch.tensor([[0.5, 2.0, 0.5, -3.0, 0.0]])
    t = torch.tensor([[9.0, 1.0, -1.0, -1.0, 0.0]])
    assert ABLoss()(s, t).item() == pytest.approx(0.7)


def test_only_the_side_counts():
    s, t = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    assert ABLoss()(s, t) == ABLoss()(s, t * 100) == ABLoss()(s, t.sign())


def test_a_map_before_and_behind_a_relu_is_the_same():
    s, t = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    assert ABLoss()(s, t) == ABLoss()(s, t.relu())


def test_the_size_of_the_map_says_nothing():
    s, t = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    larger = ABLoss()(s.repeat(1, 1, 3, 3), t.repeat(1, 1, 3, 3))
    torch.testing.assert_close(larger, ABLoss()(s, t))


def test_beyond_the_margin_nothing_pulls():
    t = torch.randn(3, 8)
    s = (t.sign() * 1.5).requires_grad_()
    value = ABLoss()(s, t)
    value.backward()
    assert value == 0 and not s.grad.any()


def test_a_margin_of_zero_is_refused():
    with pytest.raises(UserError, match='margin'):
        ABLoss(margin=0.0)
