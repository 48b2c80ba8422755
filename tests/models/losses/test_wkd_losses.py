# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""WKD against the paper: exact transport, and moments in float64."""

import math

import numpy as np
import pytest
import torch
from naive_logits import as_labels, batch, softmax, without
from scipy.optimize import linprog
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.models.losses.wasserstein_losses import (
    WKDFeatureLoss,
    WKDLogitLoss,
    transport,
)


def exact(q, p, cost):
    """Least cost of moving q to p, and its dual variables of q."""
    c = len(q)
    sums = np.concatenate(
        [np.kron(np.eye(c), np.ones(c)), np.kron(np.ones(c), np.eye(c))]
    )
    found = linprog(cost.ravel(), A_eq=sums, b_eq=np.concatenate([q, p]))
    return found.fun, found.eqlin.marginals[:c]


def entropic(q, p, cost, eps, rounds=2000):
    """``min <P, c> + eps KL(P || q p)``, by plain rounds in the log domain."""
    g = np.zeros(len(p))
    for _ in range(rounds):
        f = -eps * np.log(np.exp((g - cost) / eps) @ p)
        g = -eps * np.log(np.exp((f[:, None] - cost) / eps).T @ q)
    return f @ q + g @ p


def cost_of(rows, sharpness=1.0):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return 1 - np.exp(-sharpness * (1 - unit @ unit.T))


def loss_with(rows, **kwargs):
    """A loss whose teacher has these rows in its last layer."""
    teacher = nn.Module()
    teacher.backbone, teacher.head = nn.Identity(), nn.Module()
    teacher.head.fc = nn.Linear(rows.shape[1], len(rows))
    with torch.no_grad():
        teacher.head.fc.weight.copy_(torch.tensor(rows))
    loss = WKDLogitLoss(**kwargs)
    loss.attach(None, teacher)
    return loss


def tensors(*arrays):
    return [torch.tensor(np.asarray(a), dtype=torch.float32) for a in arrays]


@pytest.mark.parametrize('c, tau, sharpness', [(6, 2.0, 1.0), (3, 1.0, 2.0), (7, 8, 1)])
def test_the_formula(c, tau, sharpness):
    s, t, y = batch(5, c)
    rows = np.random.default_rng(1).normal(size=(c, 4))
    cost = cost_of(rows, sharpness)
    target = moved = 0.0
    for a, b, k in zip(s, t, y, strict=True):
        target -= softmax(b)[k] * math.log(softmax(a)[k]) / 5
        kept = np.delete(np.delete(cost, k, 0), k, 1)
        q, p = (np.array(softmax(without(z, k), tau)) for z in (a, b))
        same = entropic(q, q, kept, 0.05) + entropic(p, p, kept, 0.05)
        moved += (entropic(q, p, kept, 0.05) - same / 2) / 5
    loss = loss_with(rows, tau=tau, beta=2.0, sharpness=sharpness, loss_weight=3.0)
    found = loss(*tensors(s, t), as_labels(y))
    assert found['loss_target'].item() == pytest.approx(3 * target, rel=1e-5)
    assert found['loss_transport'].item() == pytest.approx(6 * moved, rel=2e-2)


@pytest.mark.parametrize('c', [3, 9, 40])
def test_it_is_near_the_exact_transport(c):
    rng = np.random.default_rng(c)
    q, p = (rng.dirichlet(np.full(c, 0.5), 4) for _ in range(2))
    cost = cost_of(rng.normal(size=(c, 8)))
    given, other, costs = tensors(q, p, cost)
    given.requires_grad_()
    found = transport(given, other, costs, 0.02)
    found.sum().backward()
    for i in range(4):
        value, dual = exact(q[i], p[i], cost)
        assert 0.9 * value <= found[i].item() <= 1.01 * value
        # as scores are moved, the constant of a dual does not count
        mine = given.grad[i].double().numpy()
        mine, dual = (q[i] * (x - q[i] @ x) for x in (mine, dual))
        assert mine @ dual > 0.95 * np.linalg.norm(mine) * np.linalg.norm(dual)


def test_cases_by_hand():
    # of two far classes a quarter is moved; ten plain rounds find 0.00006 of it
    q, p = tensors([[0.75, 0.25]], [[0.5, 0.5]])
    found = transport(q, p, torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.05).item()
    assert found == pytest.approx(0.25, rel=0.1)
    assert transport(q, q, torch.ones(2, 2) - torch.eye(2), 0.05).item() == (
        pytest.approx(0, abs=1e-6)
    )
    # label 2 of (log 3, 0, 0): 0.2 log 3
    loss = loss_with(np.eye(3), tau=1.0)
    found = loss(torch.zeros(1, 3), torch.tensor([[math.log(3), 0, 0]]), as_labels([2]))
    assert found['loss_target'].item() == pytest.approx(0.2 * math.log(3), rel=1e-5)


def test_similar_classes_cost_less():
    rows = np.array([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.2], [0.0, 1.0]])
    loss = loss_with(rows, tau=1.0)
    t = torch.tensor([[3.0, 0.0, 0.0, 0.0]])
    near, far = (torch.tensor([z]) for z in ([0.0, 3, 0, 0], [0.0, 0, 3, 0]))
    near, far = (loss(s, t, as_labels([3]))['loss_transport'] for s in (near, far))
    assert near < 0.1 * far


def test_two_classes_leave_nothing_to_move():
    loss = loss_with(np.eye(2))
    with pytest.warns(UserWarning, match='2 classes'):
        found = loss(torch.randn(4, 2), torch.randn(4, 2), as_labels([0, 1, 0, 1]))
    assert found['loss_transport'] == 0 and found['loss_target'] > 0


@pytest.mark.parametrize('key, value', [('regularization', 0.01), ('sharpness', 0)])
def test_values_out_of_range(key, value):
    with pytest.raises(UserError, match=key):
        WKDLogitLoss(**{key: value})


def naive_moments(s, t, ratio, grid):
    """The squared distance of Gaussians, cell by cell, over channels and cells."""
    n, c, height, width = s.shape
    total = 0.0
    for i, k, row, column in np.ndindex(n, c, grid, grid):
        rows = slice(row * height // grid, -(-(row + 1) * height // grid))
        columns = slice(column * width // grid, -(-(column + 1) * width // grid))
        a, b = (x[i, k, rows, columns].ravel() for x in (s, t))
        sd_a, sd_b = (math.sqrt(x.var(ddof=1) + 1e-5) for x in (a, b))
        total += ratio * (a.mean() - b.mean()) ** 2 + (sd_a - sd_b) ** 2
    return total / (n * c * grid**2)


@pytest.mark.parametrize('ratio, grid', [(2.0, 1), (4.0, 2), (0.0, 3)])
def test_moments_are_the_formula(ratio, grid):
    s, t = np.random.default_rng(0).normal(size=(2, 3, 4, 7, 5))
    found = WKDFeatureLoss(ratio, grid, loss_weight=2.0)(*tensors(s, t)).item()
    assert found == pytest.approx(2 * naive_moments(s, t, ratio, grid), rel=1e-5)


def test_moments_by_hand():
    # means 1 and 2; deviations 2 / sqrt(3) and 4 / sqrt(3): 2 * 1 + 4 / 3
    s, t = tensors([[[[0, 2], [0, 2]]]], [[[[0, 4], [0, 4]]]])
    assert WKDFeatureLoss()(s, t).item() == pytest.approx(10 / 3, rel=1e-4)
    # a shift moves the means alone, and what lies where says nothing
    assert WKDFeatureLoss()(t + 1, t).item() == pytest.approx(2, rel=1e-4)
    assert WKDFeatureLoss()(t.flip(3), t).item() == 0


@pytest.mark.parametrize('size, grid', [(1, 1), (2, 2), (2, 4)])
def test_cells_of_one_pixel_are_refused(size, grid):
    maps = torch.randn(2, 3, size, size)
    with pytest.raises(UserError, match='a cell has one pixel'):
        WKDFeatureLoss(grid=grid)(maps, maps)
