# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""FitNetLoss against its definition, written out in float64."""

import numpy as np
import pytest
import torch

from hkd_mm.models.losses.hint_losses import FitNetLoss


def naive(s, t, normalize):
    total = 0.0
    for mine, other in zip(s, t):
        mine, other = mine.ravel().tolist(), other.ravel().tolist()
        if normalize:
            lengths = [sum(x * x for x in v) ** 0.5 for v in (mine, other)]
            mine = [x / lengths[0] for x in mine]
            other = [x / lengths[1] for x in other]
        squares = sum((a - b) ** 2 for a, b in zip(mine, other))
        total += squares if normalize else squares / len(mine)
    return total / len(s)


def pair(shape, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) * scale for _ in range(2)]


def tensors(*arrays):
    return [torch.as_tensor(a, dtype=torch.float32) for a in arrays]


@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize(
    'shape, scale', [((5, 3, 4, 2), 1.0), ((2, 7), 1e3), ((1, 2, 1, 1), 1e-3)]
)
def test_it_equals_the_definition(shape, scale, normalize):
    s, t = pair(shape, scale)
    found = FitNetLoss(normalize)(*tensors(s, t))
    assert found.item() == pytest.approx(naive(s, t, normalize), rel=1e-5)


def test_a_case_by_hand():
    s, t = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    # (9 + 4) / 2
    assert FitNetLoss()(s, t).item() == pytest.approx(6.5)
    # (0.6, 0.8) and (0, 1): 0.36 + 0.04
    assert FitNetLoss(True)(s, t).item() == pytest.approx(0.4)


@pytest.mark.parametrize('normalize', [False, True])
def test_a_feature_of_zeros_has_a_gradient(normalize):
    s = torch.zeros(2, 3, 2, 2, requires_grad=True)
    value = FitNetLoss(normalize)(s, torch.randn(2, 3, 2, 2))
    value.backward()
    assert value.isfinite() and s.grad.isfinite().all()
    assert s.grad.abs().max() < 1e5


@pytest.mark.parametrize('normalize', [False, True])
def test_the_teacher_is_left_alone(normalize):
    t = torch.randn(2, 3, requires_grad=True)
    s = torch.randn(2, 3, requires_grad=True)
    FitNetLoss(normalize)(s, t).backward()
    assert t.grad is None and s.grad.any()


@pytest.mark.parametrize('normalize', [False, True])
def test_the_size_of_the_map_says_nothing(normalize):
    s, t = tensors(*pair((2, 3, 2, 2)))
    loss = FitNetLoss(normalize)
    larger = loss(s.repeat(1, 1, 3, 3), t.repeat(1, 1, 3, 3))
    torch.testing.assert_close(larger, loss(s, t))


def test_normalised_features_have_no_scale():
    s, t = tensors(*pair((4, 6)))
    loss = FitNetLoss(normalize=True)
    torch.testing.assert_close(loss(s * 1e4, t * 1e-4), loss(s, t))
