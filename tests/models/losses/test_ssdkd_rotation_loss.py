# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The rotated views of SSD-KD, written out in float64."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.models.losses.ssdkd_losses import SSDKDRotationLoss, least_wrong


def softmax(z):
    e = [math.exp(v - max(z)) for v in z]
    return [v / sum(e) for v in e]


def naive_selection(rows, targets, share):
    """Right ones, then the wrong ones by the place of the truth."""
    right, wrong = [], []
    for i, (row, y) in enumerate(zip(rows, targets, strict=True)):
        place = sorted(row, reverse=True).index(row[y])
        if place == 0:
            right.append(i)
        else:
            wrong.append((place, max(row) - row[y], i))
    kept = sorted(wrong)[: int(share * len(wrong))]
    return sorted(right + [i for _, _, i in kept])


def naive_kl(mine, other, tau, kept):
    total = 0
    for i in kept:
        p, q = softmax(other[i] / tau), softmax(mine[i] / tau)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / max(len(kept), 1)  # 0 where all are wrong


def naive_cosines(x):
    """Of each rotated view with each upright one; images, then views."""
    n = len(x) // 4
    x = [row / math.sqrt(row @ row) for row in x]
    return [
        np.array([x[view * n + i] @ x[j] for j in range(n)])
        for i in range(n)
        for view in (1, 2, 3)
    ]


def data(n, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 5, n)
    return (
        rng.normal(size=(4 * n, 5)),
        rng.normal(size=(4 * n, 5)),
        np.tile(y, 4),
        rng.normal(size=(4 * n, 3)),
        rng.normal(size=(4 * n, 3)),
    )


def plain(**kwargs):
    """With features that pass the heads as they are."""
    loss = SSDKDRotationLoss(**kwargs)
    loss.head_S = loss.head_T = nn.Identity()
    return loss


def run(loss, *arrays):
    return loss(
        *(
            torch.as_tensor(a).float() if a.dtype == float else torch.tensor(a)
            for a in arrays
        )
    )


@pytest.mark.parametrize(
    'n, keep, keep_similarity, weights',
    [
        (4, 1.0, 0.75, (4.0, 0.5, 2.7, 10.0)),
        (7, 0.5, 0.3, (2.0, 1.0, 1.0, 3.0)),
        (5, 0.0, 1.0, (1.0, 0.2, 0.5, 1.0)),
    ],
)
def test_its_parts_equal_the_definitions(n, keep, keep_similarity, weights):
    tau, tau_similarity, alpha, beta = weights
    z_s, z_t, y, f_s, f_t = arrays = data(n, seed=n)
    loss = plain(
        tau=tau,
        tau_similarity=tau_similarity,
        alpha=alpha,
        beta=beta,
        keep=keep,
        keep_similarity=keep_similarity,
    )
    found = run(loss, *arrays)
    kept = naive_selection(z_t[n:], y[n:], keep)
    rotated = alpha * tau**2 * naive_kl(z_s[n:], z_t[n:], tau, kept)
    a_s, a_t = naive_cosines(f_s), naive_cosines(f_t)
    truth = [i for i in range(n) for _ in range(3)]
    kept = naive_selection(a_t, truth, keep_similarity)
    similar = naive_kl(a_s, a_t, tau_similarity, kept)
    head = -np.mean(
        [
            math.log(softmax(row / tau_similarity)[i])
            for row, i in zip(a_t, truth, strict=True)
        ]
    )
    expected = dict(
        loss_rotated=rotated,
        loss_similarity=beta * tau_similarity**2 * similar,
        loss_head=head,
    )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-5), name


def test_a_selection_by_hand():
    scores = torch.tensor(
        [
            [3.0, 2.0, 1.0],  # right
            [2.0, 3.0, 1.0],  # second place, gap 1
            [1.0, 2.0, 3.0],  # third place
            [2.5, 3.0, 1.0],  # second place, gap 1/2
        ]
    )
    target = torch.tensor([0, 0, 0, 0])
    for share, kept in (
        (0.0, [0]),
        (0.5, [0, 3]),  # one and a half of three
        (0.67, [0, 1, 3]),
        (1.0, [0, 1, 2, 3]),
    ):
        found = least_wrong(scores, target, share)
        assert found.nonzero().flatten().tolist() == kept
    with pytest.raises(RuntimeError):
        least_wrong(scores, target - 1, 1.0)


def test_similarities_by_hand():
    # Two images with upright vectors a = (1, 0), b = (0, 1). The teacher's
    # rotated views are like their upright ones: cosines 1 and 0; at
    # temperature 1/2 the row is (e^2, 1) / (e^2 + 1), all right. The
    # student's are at 45 degrees to both: (1/2, 1/2).
    # KL = ln 2 - H = 0.693147 - 0.365334; the head has -ln p = 0.126928.
    eye = np.eye(2)
    z = np.zeros((8, 5))
    y = np.zeros(8, dtype=int)
    f_s = np.concatenate([eye, np.ones((6, 2))])
    found = run(plain(), z, z, y, f_s, np.tile(eye, (4, 1)))
    assert found['loss_head'].item() == pytest.approx(0.126928, abs=1e-6)
    assert found['loss_similarity'].item() == pytest.approx(
        10 * 0.25 * (0.693147 - 0.365334), abs=1e-5
    )
    assert found['loss_rotated'].item() == pytest.approx(0, abs=1e-6)


def test_each_head_learns_from_its_own_part():
    loss = SSDKDRotationLoss()
    loss.build((1, 3), (1, 6))
    z_s, z_t, y, f_s, _ = data(4, 0)
    found = run(loss, z_s, z_t, y, f_s, np.random.randn(16, 6))
    found['loss_similarity'].backward(retain_graph=True)
    assert all(p.grad.any() for p in loss.head_S.parameters() if p.dim() > 1)
    assert all(p.grad is None for p in loss.head_T.parameters())
    loss.zero_grad()
    found['loss_head'].backward()
    assert all(p.grad.any() for p in loss.head_T.parameters() if p.dim() > 1)
    assert all(p.grad is None for p in loss.head_S.parameters())


def test_the_soft_targets_of_upright_views_are_anothers():
    z_s, *others = data(4, 0)
    changed = z_s.copy()
    changed[:4] += 1 + np.arange(5)
    one, two = (run(plain(), z, *others)['loss_rotated'] for z in (z_s, changed))
    assert one == two


def test_a_batch_without_views_is_refused():
    with pytest.raises(UserError, match='RotationDistill'):
        run(plain(), *(a[:6] for a in data(4, 0)))


@pytest.mark.parametrize(
    'kwargs, key',
    [
        (dict(tau=0), 'tau'),
        (dict(tau_similarity=0), 'tau_similarity'),
        (dict(alpha=-1), 'alpha'),
        (dict(beta=0), 'beta'),
        (dict(keep=1.1), 'keep'),
        (dict(keep_similarity=-0.1), 'keep_similarity'),
        (dict(dimensions=0), 'dimensions'),
    ],
)
def test_values_out_of_range_name_the_key(kwargs, key):
    with pytest.raises(UserError, match=key):
        SSDKDRotationLoss(**kwargs)
