# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""SemCKDLoss against the paper, written out in float64."""

import math

import numpy as np
import pytest
import torch
from naive_maps import batch_norm, conv, resize, values

from hkd_mm.errors import UserError
from hkd_mm.models.losses.stage_losses import SemCKDLoss, attention

SIZES = (4, 3, 2)


def naive_rows(feature):
    """Row i: how image i resembles each image, of norm 1."""
    n = len(feature)
    rows = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            rows[i, j] = np.sum(feature[i] * feature[j])
        rows[i] /= math.sqrt(np.sum(rows[i] ** 2))
    return rows


def naive_attention(s, t, tau):
    found = np.zeros((len(s[0]), len(s), len(t)))
    for i, a, b in np.ndindex(found.shape):
        cosine = np.sum(naive_rows(s[a])[i] * naive_rows(t[b])[i])
        found[i, a, b] = math.exp(cosine / tau)
    return found / found.sum(2, keepdims=True)


def naive_projection(x, own, prefix):
    for conv_at, norm_at in ((0, 1), (3, 4)):
        x = conv(x, own[f'{prefix}.{conv_at}.weight'])
        weight = own[f'{prefix}.{norm_at}.weight']
        x = batch_norm(x, weight, own[f'{prefix}.{norm_at}.bias'])
        x = np.maximum(x, 0)
    return conv(x, own[f'{prefix}.6.weight'], own[f'{prefix}.6.bias'])


def naive(s, t, own, tau):
    weights = naive_attention(s, t, tau)
    total = 0.0
    for a in range(len(s)):
        for b in range(len(t)):
            x = resize(s[a], *t[b].shape[2:])
            x = naive_projection(x, own, f'project.{a}.{b}')
            for i in range(len(x)):
                distance = np.mean((x[i] - t[b][i]) ** 2)
                total += weights[i, a, b] * distance
    return total / len(s[0]) / len(s)


def batch(channels, sizes=SIZES, n=4, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, c, side, side)) for c, side in zip(channels, sizes)]


def tensors(maps):
    return [torch.tensor(x, dtype=torch.float32) for x in maps]


def made(s, t, **kwargs):
    torch.manual_seed(0)
    loss = SemCKDLoss(channels=2, **kwargs)
    loss.build([x.shape for x in s], [x.shape for x in t])
    return loss


@pytest.mark.filterwarnings('ignore:SemCKDLoss')
@pytest.mark.parametrize(
    'tau, weight, n, channels',
    [
        (1.0, 1.0, 4, (3, 2, 4)),
        (0.2, 400.0, 5, (2, 3)),
        (3.0, 2.0, 2, (4, 2, 2)),
    ],
)
def test_the_loss_equals_the_formula(tau, weight, n, channels):
    s, t = batch((2, 3, 3), n=n), batch(channels, n=n, seed=1)
    loss = made(s, t, tau=tau, loss_weight=weight)
    expected = weight * naive(s, t, values(loss), tau)
    found = loss(tensors(s), tensors(t))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_attention_by_hand():
    # two images; the student stage sees them apart: rows (1, 0) and (0, 1).
    # teacher stage 1 does too, cosine 1; stage 2 sees them equal, rows
    # (1, 1) / sqrt 2, cosine 0.7071: 1 / (1 + exp(0.7071 - 1)) = 0.5727
    apart = torch.eye(2).view(2, 2, 1, 1)
    equal = torch.ones(2, 2, 1, 1)
    found = attention([apart], [apart, equal], tau=1.0)
    assert found.shape == (2, 1, 2)
    for i in range(2):
        assert found[i, 0].tolist() == pytest.approx([0.5727, 0.4273], 1e-3)


def test_a_low_tau_picks_the_stage_that_is_alike():
    s = torch.randn(8, 3, 4, 4)
    others = [torch.randn(8, 3, 4, 4), 5 * s, torch.randn(8, 3, 4, 4)]
    found = attention([s], others, tau=0.01)
    assert (found[:, 0].argmax(1) == 1).all()


@pytest.mark.filterwarnings('ignore:SemCKDLoss')
def test_batches_of_any_size_go_through_one_loss():
    # the layer of the paper is as wide as one batch; the last one is smaller
    s, t = batch((2, 3, 3), n=8), batch((3, 2, 4), n=8, seed=1)
    loss = made(s, t)
    for n in (8, 5, 1):
        found = loss([x[:n] for x in tensors(s)], [x[:n] for x in tensors(t)])
        assert found.isfinite()


@pytest.mark.filterwarnings('ignore:SemCKDLoss')
def test_the_attention_carries_no_gradient():
    s, t = batch((2,)), batch((3, 2), seed=1)
    loss = made(s, t)
    for projection in loss.project[0]:
        torch.nn.init.zeros_(projection[6].weight)
    (feature,) = (x.requires_grad_() for x in tensors(s))
    loss([feature], tensors(t)).backward()
    assert not feature.grad.any()


def test_few_samples_are_warned_about():
    s, t = batch((2,)), batch((3,), seed=1)
    with pytest.warns(UserWarning, match='raise batch_size'):
        made(s, t)(tensors(s), tensors(t))


@pytest.mark.parametrize('kwargs', [dict(tau=0), dict(channels=0)])
def test_values_out_of_range_name_the_key(kwargs):
    with pytest.raises(UserError, match=next(iter(kwargs))):
        SemCKDLoss(**kwargs)
