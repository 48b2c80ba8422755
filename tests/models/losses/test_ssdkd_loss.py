# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The dual relations of SSD-KD, written out in float64."""

import math

import numpy as np
import pytest
import torch
from test_rkd_loss import naive_angle, naive_distance
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.models.losses.ssdkd_losses import SSDKDLoss, channel_difference


def naive_channel(s, t):
    """sqrt(MSE) of the Gram matrices, each made entry by entry."""
    total, (n, channels) = 0, s.shape[:2]
    for i in range(n):
        for a in range(channels):
            for b in range(channels):
                g_s, g_t = ((x[i, a] * x[i, b]).sum() for x in (s, t))
                total += ((g_s - g_t) / s[i].size) ** 2
    return math.sqrt(total / (n * channels**2))


def naive_kd(s, t, tau):
    def log_softmax(z):
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    p, q = log_softmax(t / tau), log_softmax(s / tau)
    return tau**2 * (np.exp(p) * (p - q)).sum(1).mean()


def data(n=5, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, 4, 3, 3)),
        rng.normal(size=(n, 4, 3, 3)),
        rng.normal(size=(n, 6)),
        rng.normal(size=(n, 6)),
    )


def tensors(*arrays):
    return [torch.as_tensor(a, dtype=torch.float32) for a in arrays]


def plain(**kwargs):
    """Without layers before the Gram matrices."""
    loss = SSDKDLoss(**kwargs)
    loss.project = nn.Identity()
    return loss


@pytest.mark.parametrize('weights', [(4.0, 0.9, 1.0, 1000.0), (5.0, 0.5, 0.1, 10.0)])
def test_its_parts_equal_the_definitions(weights):
    tau, alpha, beta, gamma = weights
    s, t, z_s, z_t = data()
    found = plain(tau=tau, alpha=alpha, beta=beta, gamma=gamma)(
        *tensors(s, t, z_s, z_t)
    )
    pooled = s.mean((2, 3)), t.mean((2, 3))
    expected = dict(
        loss_kd=alpha * naive_kd(z_s, z_t, tau),
        loss_distance=25 * beta * naive_distance(*pooled),
        loss_angle=50 * beta * naive_angle(*pooled),
        loss_channel=gamma * naive_channel(s, t),
    )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize('shape', [(2, 7, 2, 2), (3, 2, 4, 5), (1, 3, 1, 1)])
def test_channels_from_products_of_places(shape):
    rng = np.random.default_rng(1)
    s, t = rng.normal(size=shape), rng.normal(size=shape)
    for mine in (s, t + s / 1000):  # far from the teacher and near to it
        mine, other = tensors(mine, t)
        expected = naive_channel(mine.double().numpy(), other.double().numpy())
        found = channel_difference(mine, other).item()
        assert found == pytest.approx(expected, rel=1e-4)


def test_channels_by_hand():
    # One image, two channels, one place: student (1, 0), teacher (1, 2).
    # Gram / 2: (1 0, 0 0) / 2 and (1 2, 2 4) / 2; the difference is
    # (0 1, 1 2), its mean square 6/4.
    s = torch.tensor([1.0, 0]).view(1, 2, 1, 1)
    t = torch.tensor([1.0, 2]).view(1, 2, 1, 1)
    assert channel_difference(s, t).item() == pytest.approx(math.sqrt(1.5))


def test_equal_maps_have_a_gradient_that_is_a_number():
    _, t, z_s, _ = data()
    s, t, z = tensors(t, t, z_s)
    s.requires_grad_()
    found = plain()(s, t, z, z)
    assert all(value.item() == 0 for value in found.values())
    sum(found.values()).backward()
    assert not s.grad.any()


def test_rotating_the_places_of_a_map_says_nothing_to_its_channels():
    s = torch.tensor(data()[0]).float().requires_grad_()
    value = channel_difference(s, s.detach().rot90(1, (2, 3)))
    value.backward()
    assert value.item() < 1e-3 and s.grad.isfinite().all()


def test_the_relations_between_samples_train_the_network_not_the_layers():
    loss = SSDKDLoss(alpha=0, gamma=1.0)
    loss.build((1, 4, 3, 3), (1, 6, 2, 2))
    s, t = torch.randn(5, 4, 3, 3), torch.randn(5, 6, 2, 2)
    found = loss(s.requires_grad_(), t)
    found['loss_angle'].backward(retain_graph=True)
    assert s.grad.any() and loss.project[0].weight.grad is None
    found['loss_channel'].backward()
    assert loss.project[0].weight.grad.any()


def test_a_part_of_weight_zero_is_left_out():
    s, t, z_s, z_t = tensors(*data())
    assert SSDKDLoss().unused_inputs == ()
    loss = SSDKDLoss(alpha=0)
    assert loss.unused_inputs == ('preds_S', 'preds_T')
    loss.project = nn.Identity()
    assert 'loss_kd' not in loss(s_feature=s, t_feature=t)
    loss = SSDKDLoss(beta=0, gamma=0)
    loss.build(s.shape, t.shape)
    assert not list(loss.parameters())
    assert loss(s, t, z_s, z_t).keys() == {'loss_kd'}


@pytest.mark.parametrize(
    'kwargs, key',
    [
        (dict(tau=0), 'tau'),
        (dict(alpha=-1), 'alpha'),
        (dict(beta=-1), 'beta'),
        (dict(gamma=-1), 'gamma'),
    ],
)
def test_values_out_of_range_name_the_key(kwargs, key):
    with pytest.raises(UserError, match=key):
        SSDKDLoss(**kwargs)
