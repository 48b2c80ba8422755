# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""VkDLoss and its orthogonal projection against the paper, in float64."""

import copy

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.connectors.feature_align_connector import OrthogonalConnector
from hkd_mm.models.losses.hint_losses import VkDLoss


def naive(s, t):
    total = 0.0
    for a, b in zip(s, t, strict=True):
        target = (b - b.mean()) / np.sqrt(b.var() + 1e-5)
        for gap in np.abs(a - target):
            total += gap**2 / 2 if gap < 1 else gap - 0.5
    return total / s.size


def tensors(*arrays):
    return [torch.tensor(np.asarray(a), dtype=torch.float32) for a in arrays]


@pytest.mark.parametrize('n, c, scale', [(5, 7, 3.0), (1, 2, 1.0), (4, 30, 0.1)])
def test_it_is_the_formula(n, c, scale):
    s, t = scale * np.random.default_rng(c).normal(size=(2, n, c)) + 1
    found = VkDLoss(loss_weight=2.0)(*tensors(s, t)).item()
    assert found == pytest.approx(2 * naive(s, t), rel=1e-4)


def test_a_case_by_hand_and_what_the_teacher_may_change():
    s, t = tensors([[0.0, 0.0]], [[1.0, 3.0]])  # the target is (-1, 1)
    assert VkDLoss()(s, t).item() == pytest.approx(0.5, rel=1e-4)
    assert VkDLoss()(s, 10 * t + 3).item() == pytest.approx(0.5, rel=1e-4)


def built(student, teacher):
    torch.manual_seed(0)
    connector = OrthogonalConnector()
    connector.build(student, teacher)
    return connector


@pytest.mark.parametrize('mine, other', [(5, 8), (8, 5), (6, 6)])
def test_the_projection_stays_orthogonal_while_it_learns(mine, other):
    connector = built((1, mine), (1, other))
    optimizer = torch.optim.SGD(connector.parameters(), lr=0.5, weight_decay=0.01)
    s, t = torch.randn(16, mine), torch.randn(16, other)
    values = []
    for _ in range(20):
        value = VkDLoss()(connector(s), t)
        optimizer.zero_grad()
        value.backward()
        before = connector.project.weight.detach().clone()
        optimizer.step()
        moved = (connector.project.weight - before).norm()
        connector(s)  # brings it back, next to where it was
        assert (connector.project.weight - before).norm() < 3 * moved
        values.append(value.item())
    found, weight = connector(s), connector.project.weight
    small = weight.T @ weight if mine <= other else weight @ weight.T
    torch.testing.assert_close(small, torch.eye(min(mine, other)), rtol=0, atol=1e-5)
    assert values[-1] < values[0]
    if mine <= other:  # lengths and angles are the student's
        torch.testing.assert_close(found @ found.T, s @ s.T, rtol=1e-4, atol=1e-4)
    again = built((1, mine), (1, other))
    again.load_state_dict(copy.deepcopy(connector.state_dict()), strict=True)
    torch.testing.assert_close(again(s), found)


def test_maps_are_pooled_and_half_precision_is_left():
    connector = built((2, 5, 3, 3), (2, 8))
    s = torch.randn(2, 5, 3, 3)
    with torch.autocast('cpu', torch.bfloat16):
        found = connector(s)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, connector(s.mean((2, 3))))
    with pytest.raises(UserError, match='vectors'):
        built((2, 5, 3, 3), (2, 8, 3, 3))
