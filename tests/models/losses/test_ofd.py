# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""OFDLoss against its definitions, written out in float64."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from hkd_mm.models.losses.hint_losses import (
    OFDLoss,
    expected_negative,
    margins_of,
)


def naive(s, t, margin):
    total = 0.0
    for index in np.ndindex(*s.shape):
        m = margin[index[1]]
        target = m if t[index] == 0 else max(t[index], m)
        if not s[index] <= target <= 0:
            total += (s[index] - target) ** 2
    return total / s.size


def teacher_with(scale, shift):
    """A network that is not timm's and ends in one BatchNorm."""
    network = nn.Sequential(nn.BatchNorm2d(len(scale)))
    with torch.no_grad():
        network[0].weight.copy_(torch.as_tensor(scale))
        network[0].bias.copy_(torch.as_tensor(shift))
    return network


def ready(scale, shift):
    loss = OFDLoss()
    loss.attach(None, teacher_with(scale, shift))
    loss.build((1, len(scale), 1, 1), (1, len(scale), 1, 1))
    return loss


@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('shape', [(3, 4, 5, 2), (6, 3), (1, 2, 1, 1)])
def test_it_equals_the_paper(shape, relu):
    rng = np.random.default_rng(0)
    s, t = (rng.normal(size=shape) * 2 for _ in range(2))
    if relu:
        t = np.maximum(t, 0)
    loss = ready(rng.normal(size=shape[1]), rng.normal(size=shape[1]))
    found = loss(*(torch.as_tensor(a, dtype=torch.float32) for a in (s, t)))
    expected = naive(s, t, loss.margin.double().numpy())
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_case_by_hand():
    loss = OFDLoss()
    loss.margin = torch.tensor([-0.5])
    # t = 2: (1 - 2)^2 = 1; t = -3 becomes -0.5: s = -1 lies below, 0;
    # s = 1: (1 + 0.5)^2 = 2.25; t = -0.2 is kept: (0 + 0.2)^2 = 0.04;
    # t = 0 is a hidden negative, -0.5: (0.5 + 0.5)^2 = 1
    s = torch.tensor([1.0, -1.0, 1.0, 0.0, 0.5]).view(5, 1)
    t = torch.tensor([2.0, -3.0, -3.0, -0.2, 0.0]).view(5, 1)
    assert loss(s, t).item() == pytest.approx((1 + 2.25 + 0.04 + 1) / 5)


@pytest.mark.parametrize(
    'scale, shift', [(1.0, 0.0), (-2.0, 0.5), (0.3, -1.0), (1.0, 4.0)]
)
def test_the_margin_is_the_mean_of_a_normal_below_zero(scale, shift):
    x = np.linspace(-12 * abs(scale) + min(shift, 0), 0, 400001)
    density = np.exp(-(((x - shift) / scale) ** 2) / 2)
    expected = (x * density).sum() / density.sum()
    found = expected_negative(teacher_with([scale], [shift])[0])
    assert found.item() == pytest.approx(expected, rel=1e-3)


def test_margins_of_odd_norms_are_finite():
    scale = [0.0, 0.0, 1e-8, 1.0, 1.0, 1e-3]
    shift = [-0.7, 0.7, 0.0, 50.0, -50.0, 1e4]
    found = expected_negative(teacher_with(scale, shift)[0])
    assert found.isfinite().all() and (found <= 0).all()
    # without spread the answer is the shift, or never negative
    torch.testing.assert_close(found[0], torch.tensor(-0.7))
    assert found[1] == 0 and found[5] == 0
    torch.testing.assert_close(found[4], torch.tensor(-50.0))


def test_the_norm_that_ends_the_stage_is_found():
    network = nn.Module()
    network.model = timm.create_model('resnet50', num_classes=3)
    with torch.no_grad():
        for i, module in enumerate(network.modules()):
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(0.1 + i / 100)
    found = margins_of(network)
    for stage, channels in (('layer1', 256), ('layer3', 1024)):
        last = getattr(network.model, stage)[-1].bn3
        assert torch.equal(found[channels], expected_negative(last))
    assert found.keys() == {256, 512, 1024, 2048}


def test_a_teacher_without_a_norm_is_answered_by_the_batch():
    loss = OFDLoss()
    loss.attach(None, nn.Linear(2, 2))
    with pytest.warns(UserWarning, match='no BatchNorm of 2 channels'):
        loss.build((1, 2), (1, 2))
    t = torch.tensor([[-1.0, 3.0], [-3.0, 1.0]])
    # margins -2 and 0: targets (-1, 3), (-2, 1); s = 0 gives
    # (1 + 9 + 4 + 1) / 4
    found = loss(torch.zeros(2, 2), t)
    assert found.item() == pytest.approx(3.75)


def test_the_margin_follows_the_device_and_is_not_saved():
    loss = ready([1.0, 2.0], [0.0, 0.0])
    assert 'margin' in dict(loss.named_buffers())
    assert not loss.state_dict() and not list(loss.parameters())
    assert loss.double().margin.dtype == torch.float64


def test_the_size_of_the_map_says_nothing():
    loss = ready([1.0, 2.0, 1.0], [0.0, 0.0, 1.0])
    s, t = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    larger = loss(s.repeat(1, 1, 3, 3), t.repeat(1, 1, 3, 3))
    torch.testing.assert_close(larger, loss(s, t))
