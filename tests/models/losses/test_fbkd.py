# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""FBKDLoss against its definitions, written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.attention_losses import FBKDLoss

PARTS = ['loss_attention', 'loss_masked', 'loss_non_local']


def softmax(values):
    powers = [math.exp(v - max(values)) for v in values]
    return [p / sum(powers) for p in powers]


def length(values):
    return math.sqrt(sum(v * v for v in values))


def naive_non_local(x):
    channels, pixels = x.shape
    out = np.zeros_like(x)
    for i in range(pixels):
        scores = [
            sum(x[c, i] * x[c, j] for c in range(channels)) / math.sqrt(channels)
            for j in range(pixels)
        ]
        for j, weight in enumerate(softmax(scores)):
            out[:, i] += weight * x[:, j]
    return out


def naive_image(s, t, tau):
    """The three lengths of one image (C, H, W)."""
    s, t = s.reshape(len(s), -1), t.reshape(len(t), -1)
    where = [np.abs(x).mean(0).tolist() for x in (s, t)]
    which = [np.abs(x).mean(1).tolist() for x in (s, t)]
    attention, masks = 0.0, []
    for mine, other in (where, which):
        attention += length([a - b for a, b in zip(mine, other)])
        both = softmax([(a + b) / tau for a, b in zip(mine, other)])
        masks.append([len(both) * p for p in both])
    masked = sum(
        (s[c, p] - t[c, p]) ** 2 * masks[0][p] * masks[1][c]
        for c, p in np.ndindex(*s.shape)
    )
    relations = naive_non_local(s) - naive_non_local(t)
    return attention, math.sqrt(masked), length(relations.ravel())


def pair(shape, scale=1.0):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) * scale for _ in range(2)]


def tensors(*arrays):
    return [torch.as_tensor(a, dtype=torch.float32) for a in arrays]


@pytest.mark.parametrize(
    'shape, scale, kwargs',
    [
        ((3, 4, 3, 2), 1.0, dict()),
        ((2, 5, 2, 2), 3.0, dict(tau=2.0, alpha=1.0, beta=2.0, gamma=3.0)),
        ((1, 2, 1, 1), 0.1, dict(alpha=1.0)),
    ],
)
def test_the_parts_equal_the_paper(shape, scale, kwargs):
    s, t = pair(shape, scale)
    loss = FBKDLoss(**kwargs)
    images = [naive_image(a, b, loss.tau) for a, b in zip(s, t)]
    found = loss(*tensors(s, t))
    assert list(found) == PARTS
    weights = loss.alpha, loss.beta, loss.gamma
    for value, weight, numbers in zip(found.values(), weights, zip(*images)):
        expected = weight * sum(numbers) / len(numbers)
        # each length is short by up to 1e-6, so that it is smooth at zero
        assert value.item() == pytest.approx(expected, rel=1e-5, abs=3e-6 * weight)


def test_a_case_by_hand():
    # one pixel, two channels: s = (1, 0), t = (0, -3); tau = 1.
    # where: |1/2 - 3/2| = 1; which: |(1, 0) - (0, 3)| = sqrt(10);
    # masks: 1 for the pixel, 2 softmax(1, 3) = (0.238406, 1.761594) for the
    # channels: sqrt(0.238406 * 1 + 1.761594 * 9) = 4.011585;
    # one pixel sees itself alone: |s - t| = sqrt(10)
    s = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    t = torch.tensor([0.0, -3.0]).view(1, 2, 1, 1)
    found = FBKDLoss(tau=1.0, alpha=1.0, beta=1.0, gamma=1.0)(s, t)
    values = [value.item() for value in found.values()]
    assert values == pytest.approx([4.162278, 4.011585, 3.162278], rel=1e-5)


def test_equal_features_give_zero_and_no_gradient():
    t = torch.randn(3, 4, 5, 5)
    s = t.clone().requires_grad_()
    found = FBKDLoss()(s, t)
    sum(found.values()).backward()
    assert all(value == 0 for value in found.values())
    assert s.grad.isfinite().all() and not s.grad.any()


@pytest.mark.parametrize('part', PARTS)
def test_the_batch_size_says_nothing(part):
    s, t = tensors(*pair((2, 4, 3, 3)))
    loss = FBKDLoss()
    large = loss(s.repeat(16, 1, 1, 1), t.repeat(16, 1, 1, 1))
    torch.testing.assert_close(large[part], loss(s, t)[part])


def test_nothing_of_the_teacher_is_trained():
    loss = FBKDLoss()
    assert not list(loss.parameters())
    s, t = (x.requires_grad_() for x in tensors(*pair((2, 4, 3, 3))))
    for part in PARTS:
        loss(s, t)[part].backward()
    assert t.grad is None and s.grad.any()


def test_the_mask_over_the_channels_counts():
    t = torch.zeros(1, 2, 1, 2)
    t[0, 0] = 5.0  # the teacher attends to the first channel
    loud, quiet = t.clone(), t.clone()
    loud[0, 0] += 0.1
    quiet[0, 1] += 0.1
    loss = FBKDLoss()
    assert loss(loud, t)['loss_masked'] > 10 * loss(quiet, t)['loss_masked']


def test_masks_have_no_gradient():
    s, t = tensors(*pair((1, 3, 2, 2)))
    s.requires_grad_()
    loss = FBKDLoss(alpha=0.0, gamma=0.0, beta=1.0)
    value = loss(s, t)['loss_masked']
    value.backward()
    # with fixed masks the squared length is a quadratic form around t
    along = (s.grad * (s.detach() - t)).sum()
    torch.testing.assert_close(along, value.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    'kwargs, key',
    [
        (dict(tau=0.0), 'tau'),
        (dict(alpha=-1.0), 'alpha'),
        (dict(beta=-1.0), 'beta'),
        (dict(gamma=-1.0), 'gamma'),
    ],
)
def test_values_out_of_range_name_the_key(kwargs, key):
    with pytest.raises(UserError, match=key):
        FBKDLoss(**kwargs)
