# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""RKD against the paper's definitions, written out in float64."""

import itertools
import math

import numpy as np
import pytest
import torch

from hkd_mm.models.losses import relation_losses as rkd_angle_loss
from hkd_mm.models.losses.relation_losses import RKDAngleLoss, RKDDistanceLoss


def huber(a, b):
    gap = abs(a - b)
    return gap**2 / 2 if gap <= 1 else gap - 0.5


def naive_distance(s, t):
    pairs = list(itertools.permutations(range(len(s)), 2))
    d_s, d_t = ({(i, j): math.dist(x[i], x[j]) for i, j in pairs} for x in (s, t))
    mean_s, mean_t = (sum(d.values()) / len(pairs) for d in (d_s, d_t))
    return sum(huber(d_s[p] / mean_s, d_t[p] / mean_t) for p in pairs) / len(pairs)


def naive_angle(s, t):
    def cosine(x, i, j, k):
        a, b = x[i] - x[j], x[k] - x[j]
        return a @ b / math.sqrt((a @ a) * (b @ b))

    triples = list(itertools.permutations(range(len(s)), 3))
    return sum(huber(cosine(s, *three), cosine(t, *three)) for three in triples) / len(
        triples
    )


def data(n, seed=0, width=(5, 7)):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, d)) * 3 for d in width]


def tensors(*arrays):
    return [torch.as_tensor(a, dtype=torch.float32) for a in arrays]


@pytest.mark.parametrize('n, seed', [(3, 0), (7, 1), (12, 2)])
def test_both_equal_the_paper(n, seed):
    s, t = data(n, seed)
    for loss, naive in (
        (RKDDistanceLoss(loss_weight=25.0), naive_distance),
        (RKDAngleLoss(loss_weight=50.0), naive_angle),
    ):
        found = loss(*tensors(s, t)).item()
        assert found == pytest.approx(loss.loss_weight * naive(s, t), rel=1e-5)


def test_a_case_by_hand():
    # Student: 0, 3, 4 on a line: distances 3, 4, 1, mean 8/3; relative 9/8,
    # 3/2, 3/8. Teacher: the triangle 3, 4, 5, mean 4; relative 3/4, 1, 5/4.
    # Gaps 3/8, 1/2, 7/8, all below 1:
    # (9/64 + 16/64 + 49/64) / 2 / 3 = 74/384 = 0.192708.
    s = torch.tensor([[0.0], [3.0], [4.0]])
    t = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    assert RKDDistanceLoss()(s, t).item() == pytest.approx(74 / 384)
    # Angles at 0, 1, 2: student 1, -1, 1; teacher 0, 3/5, 4/5.
    # Gaps 1, 8/5, 1/5: 1/2 + (8/5 - 1/2) + 1/50 = 1.62, a third of it.
    assert RKDAngleLoss()(s, t).item() == pytest.approx(0.54)


def test_the_scale_and_place_of_the_features_say_nothing():
    s, t = tensors(*data(6))
    for loss in (RKDDistanceLoss(), RKDAngleLoss()):
        torch.testing.assert_close(loss(3 * s + 5, t), loss(s, t), rtol=1e-4, atol=1e-6)


def test_vectors_are_not_brought_to_length_1():
    s = torch.tensor([[1.0, 0], [2, 0], [0, 1]])
    t = torch.tensor([[1.0, 0], [1, 0], [0, 1]])  # where s goes if they were
    assert RKDDistanceLoss()(s, t) > 0.01
    assert RKDAngleLoss()(s, t) > 0.01


@pytest.mark.parametrize('kind', [RKDDistanceLoss, RKDAngleLoss])
def test_equal_images_leave_no_huge_gradient(kind):
    s, t = tensors(*data(6))
    s[1], s[2] = s[0], s[0]
    t[3] = t[4]
    s.requires_grad_()
    kind()(s, t).backward()
    assert s.grad.isfinite().all() and 0 < s.grad.abs().max() < 10
    s = torch.ones(6, 5, requires_grad=True)  # and all of them
    kind()(s, t).backward()
    assert not s.grad.any()


@pytest.mark.parametrize('kind', [RKDDistanceLoss, RKDAngleLoss])
def test_near_images_are_not_lost_to_rounding(kind):
    s, t = data(6)
    s = 1000 + s / 100
    found = kind()(torch.tensor(s).float(), torch.tensor(t).float()).item()
    s = s.astype(np.float32).astype(np.float64)
    naive = naive_distance if kind is RKDDistanceLoss else naive_angle
    assert found == pytest.approx(naive(s, t), rel=1e-4)


def test_vertex_by_vertex_is_the_same(monkeypatch):
    s, t = tensors(*data(9))
    found = []
    for elements in (2**24, 1):
        monkeypatch.setattr(rkd_angle_loss, '_ELEMENTS', elements)
        mine = s.clone().requires_grad_()
        value = RKDAngleLoss()(mine, t)
        value.backward()
        found += [(value.detach(), mine.grad)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)
