# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""VIDLoss against the Gaussian likelihood, written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.hint_losses import VIDLoss


def naive(s, t, raw, eps):
    total = 0.0
    for index in np.ndindex(*s.shape):
        variance = math.log1p(math.exp(raw[index[1]])) + eps
        total += math.log(math.sqrt(variance))
        total += (t[index] - s[index]) ** 2 / (2 * variance)
    return total / s.size


def built(shape, **kwargs):
    loss = VIDLoss(**kwargs)
    loss.build([shape], [shape])
    return loss


def call(loss, *features):
    return loss(*([x] for x in features))


@pytest.mark.parametrize(
    'shape, eps', [((3, 4, 5, 2), 1e-5), ((6, 3), 0.1), ((1, 2, 1, 1), 1e-5)]
)
def test_it_equals_the_paper(shape, eps):
    rng = np.random.default_rng(0)
    s, t, raw = (rng.normal(size=n) for n in (shape, shape, shape[1]))
    loss = built(shape, eps=eps)
    with torch.no_grad():
        loss.raw_variance[0].copy_(torch.as_tensor(raw))
    found = call(loss, *(torch.as_tensor(a, dtype=torch.float32) for a in (s, t)))
    assert found.item() == pytest.approx(naive(s, t, raw, eps), rel=1e-5)


def test_a_case_by_hand():
    # variance 4: (ln 4 + (1 - 3)^2 / 4) / 2 = (1.386294 + 1) / 2
    loss = built((1, 1), variance=4.0)
    found = call(loss, torch.tensor([[1.0]]), torch.tensor([[3.0]]))
    assert found.item() == pytest.approx(1.193147, rel=1e-5)


@pytest.mark.parametrize('variance', [1e-3, 0.5, 5.0, 1e3])
def test_the_variance_starts_where_it_is_said(variance):
    loss = built((2, 7, 3, 3), variance=variance)
    found = torch.nn.functional.softplus(loss.raw_variance[0]) + loss.eps
    torch.testing.assert_close(found, torch.full((7,), variance), rtol=1e-4, atol=0)


def test_the_variance_is_trained_and_saved():
    loss = built((64, 2), variance=1.0)
    assert [name for name, _ in loss.named_parameters()] == ['raw_variance.0']
    assert 'raw_variance.0' in loss.state_dict()
    s = torch.zeros(64, 2)
    t = torch.randn(64, 2) * torch.tensor([0.5, 2.0])
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.2)
    for _ in range(800):
        optimizer.zero_grad()
        call(loss, s, t).backward()
        optimizer.step()
    # the likelihood is largest where it is the mean squared error
    found = torch.nn.functional.softplus(loss.raw_variance[0]) + loss.eps
    torch.testing.assert_close(found.detach(), t.square().mean(0), rtol=1e-2, atol=0)


def test_each_channel_has_its_own():
    loss = built((4, 3, 2, 2))
    t = torch.randn(4, 3, 2, 2)
    s = t.clone()
    s[:, 1] += 10
    call(loss, s, t).backward()
    gradient = loss.raw_variance[0].grad
    assert gradient[1] < 0 < gradient[0]  # it grows where the error is


def test_the_loss_is_bounded_from_below():
    loss = built((2, 3), eps=1e-4)
    with torch.no_grad():
        loss.raw_variance[0].fill_(-100.0)
    t = torch.randn(2, 3)
    assert call(loss, t, t).item() == pytest.approx(math.log(1e-4) / 2, rel=1e-4)


def test_the_stages_add_up():
    shapes = [(2, 3, 4, 4), (2, 5, 2, 2)]
    s, t = ([torch.randn(shape) for shape in shapes] for _ in range(2))
    loss = VIDLoss()
    loss.build(shapes, shapes)
    expected = sum(
        call(built(shape), *pair) for shape, *pair in zip(shapes, s, t, strict=True)
    )
    torch.testing.assert_close(loss(s, t), expected)


@pytest.mark.parametrize(
    'kwargs, key',
    [(dict(eps=0.0), 'eps'), (dict(variance=1e-6), 'variance')],
)
def test_values_out_of_range_name_the_key(kwargs, key):
    with pytest.raises(UserError, match=key):
        VIDLoss(**kwargs)
