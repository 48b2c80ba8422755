# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Weights of several teachers against their papers, in float64."""

import math

import numpy as np
import pytest
import torch
from naive_logits import (
    as_labels,
    batch,
    cross_entropy,
    entropy,
    kl,
    mixed_targets,
    softmax,
)

from hkd_mm.models.losses.kd_losses import KLLoss
from hkd_mm.models.losses.multi_teacher_losses import (
    AEKDLoss,
    AgreementKDLoss,
    CAMKDLoss,
    EBKDLoss,
    shortest_mixture,
)


def data(k, n=5, c=4, seed=0):
    """Logits of the student (n, c) and of the teachers (n, k, c), and labels."""
    s, _, y = batch(n, c, seed)
    return s, 3 * np.random.default_rng(seed + 9).normal(size=(n, k, c)), y


def confidence(t, y):
    errors = [cross_entropy(z, y) for z in t]
    whole = sum(map(math.exp, errors))
    return [(1 - math.exp(e) / whole) / (len(t) - 1) for e in errors]


def doubt(t, _):
    found = [entropy(softmax(z)) for z in t]
    return [(1 - h / sum(found)) / (len(t) - 1) for h in found]


def agreement(t, _):
    p = [softmax(z) for z in t]
    apart = [kl(x, np.mean(p, axis=0)) for x in p]
    shares = softmax([-d for d in apart])
    return [(1 - np.mean(apart) / math.log(len(t))) * w for w in shares]


def naive(weights_of, s, t, y, tau):
    total = 0.0
    for a, teachers, label in zip(s, t, y, strict=True):
        for w, b in zip(weights_of(teachers, label), teachers, strict=True):
            total += w * kl(softmax(b, tau), softmax(a, tau))
    return tau**2 * total / len(s)


def call(loss, s, t, y):
    s, t = (torch.tensor(x, dtype=torch.float32) for x in (s, t))
    given = (as_labels(y),) if isinstance(loss, CAMKDLoss) else ()
    return loss(s, t, *given).item()


@pytest.mark.parametrize('k, tau', [(2, 4.0), (3, 1.0), (5, 2.0)])
@pytest.mark.parametrize(
    'kind, weights_of',
    [(CAMKDLoss, confidence), (EBKDLoss, doubt), (AgreementKDLoss, agreement)],
)
def test_it_is_the_formula(kind, weights_of, k, tau):
    s, t, y = data(k)
    found = call(kind(tau, loss_weight=2.0), s, t, y)
    assert found == pytest.approx(2 * naive(weights_of, s, t, y, tau), rel=1e-5)
    if kind is CAMKDLoss:
        y = mixed_targets(5, 4)
        expected = naive(weights_of, s, t, y, tau)
        assert call(kind(tau), s, t, y) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('k', [2, 3, 6])
def test_aekd_finds_the_shortest_common_gradient(k):
    s, t, y = data(k, n=8)
    q, p = (np.exp(z / 2) / np.exp(z / 2).sum(-1, keepdims=True) for z in (s, t))
    gradients = (q[:, None] - p).mean(0)
    found = shortest_mixture(torch.tensor(gradients), 0.6).double().numpy()
    assert found.sum() == pytest.approx(1) and (found >= -1e-9).all()
    assert found.max() <= 0.6 + 1e-6
    best = np.linalg.norm(found @ gradients)
    for w in np.random.default_rng(1).dirichlet(np.ones(k), 2000):
        assert w.max() > 0.6 or np.linalg.norm(w @ gradients) >= best - 1e-5
    expected = naive(lambda *_: found, s, t, y, 2.0)
    assert call(AEKDLoss(2.0), s, t, y) == pytest.approx(expected, rel=1e-4)


def test_weights_by_hand():
    # errors log 2 and log 4: 2/3 and 1/3
    assert confidence(np.log([[1, 1], [1, 3]]), 0) == pytest.approx([2 / 3, 1 / 3])
    # entropies log 2 and 0: the one that is sure is heard alone
    s, t = np.zeros((1, 2)), np.array([[[0.0, 0.0], [50.0, 0.0]]])
    assert call(EBKDLoss(1.0), s, t, [0]) == pytest.approx(math.log(2), rel=1e-5)
    # gradients (2, 0) and (0, 1): (0.2, 0.8), within bounds (0.4, 0.6)
    vectors = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    for most, expected in ((1.0, [0.2, 0.8]), (0.6, [0.4, 0.6])):
        found = shortest_mixture(vectors, most)
        torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize('kind', [CAMKDLoss, EBKDLoss, AgreementKDLoss, AEKDLoss])
def test_equal_teachers_are_one(kind):
    s, t, y = data(1)
    expected = call(KLLoss(), s, t[:, 0], y)
    assert call(kind(), s, t.repeat(3, 1), y) == pytest.approx(expected, rel=1e-5)


def test_the_images_that_teachers_differ_on_count_less():
    s, t = np.zeros((1, 3)), np.array([[[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]]])
    assert call(AgreementKDLoss(), s, t, [0]) < 0.02 * call(EBKDLoss(), s, t, [0])
