# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""HybridKDLoss against equation (1), written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.label_losses import HybridKDLoss


def naive_softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def naive_hybrid(s, t, y, fs, ft, alpha, beta, tau, weight=None):
    """Equation (1) sample by sample, from the definitions."""
    ps, pt = naive_softmax(s / tau), naive_softmax(t / tau)
    kd = tau**2 * np.mean(
        [
            sum(pt[i, c] * math.log(pt[i, c] / ps[i, c]) for c in range(s.shape[1]))
            for i in range(len(s))
        ]
    )
    p = naive_softmax(s)
    w = np.ones(s.shape[1]) if weight is None else np.asarray(weight)
    ce = -sum(w[y[i]] * math.log(p[i, y[i]]) for i in range(len(s))) / len(s)
    return alpha * kd, (1 - alpha) * ce, beta * np.mean((fs - ft) ** 2)


def tensors(n=5, c=6, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, c)) * 3,
        rng.normal(size=(n, c)) * 3,
        rng.integers(0, c, n),
        rng.normal(size=(n, 4, 3, 3)),
        rng.normal(size=(n, 4, 3, 3)),
    )


def parts(loss, s, t, y, fs, ft, dtype=torch.float32):
    return loss(
        *(torch.as_tensor(a, dtype=dtype) for a in (s, t)),
        torch.as_tensor(y),
        *(torch.as_tensor(a, dtype=dtype) for a in (fs, ft)),
    )


@pytest.mark.parametrize(
    'alpha, beta, tau, weight',
    [
        (0.85, 0.02, 4.0, None),
        (0.3, 1.5, 1.0, None),
        (0.85, 0.02, 2.0, [1.0, 0.5, 2.0, 3.0, 0.1, 1.0]),
    ],
)
def test_parts_equal_the_paper(alpha, beta, tau, weight):
    data = tensors()
    found = parts(HybridKDLoss(alpha, beta, tau, weight), *data)
    expected = naive_hybrid(*data, alpha, beta, tau, weight)
    for key, value in zip(('loss_kd', 'loss_ce', 'loss_align'), expected, strict=True):
        assert found[key].item() == pytest.approx(value, rel=1e-5), key


def test_a_case_by_hand():
    # p_T = (3/4, 1/4), p_S = (1/2, 1/2) at tau 1:
    # KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812; CE = ln 2; FA = (1 - 3)^2
    found = HybridKDLoss(alpha=0.5, beta=0.25, tau=1.0)(
        torch.zeros(1, 2),
        torch.tensor([[math.log(3.0), 0.0]]),
        torch.tensor([0]),
        torch.ones(1, 2),
        torch.full((1, 2), 3.0),
    )
    assert found['loss_kd'].item() == pytest.approx(0.065406, abs=1e-6)
    assert found['loss_ce'].item() == pytest.approx(0.346574, abs=1e-6)
    assert found['loss_align'].item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    'alpha, beta, keys',
    [
        (1.0, 0.0, {'loss_kd'}),
        (0.85, 0.0, {'loss_kd', 'loss_ce'}),
        (1.0, 0.02, {'loss_kd', 'loss_align'}),
        (0.85, 0.02, {'loss_kd', 'loss_ce', 'loss_align'}),
        (0.0, 0.0, {'loss_ce'}),
    ],
)
def test_the_four_variants_have_just_their_parts(alpha, beta, keys):
    assert set(parts(HybridKDLoss(alpha, beta), *tensors())) == keys


def test_equal_networks_give_zero_and_no_gradient():
    s = torch.randn(4, 6, requires_grad=True)
    f = torch.randn(4, 3, 2, 2, requires_grad=True)
    found = HybridKDLoss(alpha=1.0)(s, s.detach().clone(), None, f, f.detach().clone())
    total = sum(found.values())
    total.backward()
    assert total.item() == pytest.approx(0, abs=1e-6)
    assert s.grad.abs().max() < 1e-6 and f.grad.abs().max() == 0


def test_no_gradient_reaches_the_teacher():
    data = [torch.randn(4, 6, requires_grad=True) for _ in range(2)]
    maps = [torch.randn(4, 3, requires_grad=True) for _ in range(2)]
    found = HybridKDLoss()(*data, torch.arange(4), *maps)
    sum(found.values()).backward()
    assert data[1].grad is None and maps[1].grad is None
    assert data[0].grad.isfinite().all() and maps[0].grad.isfinite().all()


def test_a_batch_twice_is_the_same_mean():
    data = tensors()
    twice = [np.concatenate([a, a]) for a in data]
    one, two = (parts(HybridKDLoss(), *d) for d in (data, twice))
    for key in one:
        assert two[key].item() == pytest.approx(one[key].item(), rel=1e-6)


def test_extreme_logits_and_bf16_stay_finite():
    s, t, y, fs, ft = tensors()
    for scale, dtype in ((1e4, torch.float32), (1.0, torch.bfloat16)):
        found = parts(HybridKDLoss(), s * scale, t * scale, y, fs, ft, dtype)
        for value in found.values():
            assert value.dtype == torch.float32 and value.isfinite()


@pytest.mark.parametrize(
    'kwargs, key',
    [
        (dict(alpha=1.2), 'alpha'),
        (dict(alpha=-0.1), 'alpha'),
        (dict(beta=-1), 'beta'),
        (dict(tau=0), 'tau'),
        (dict(tau=-4.0), 'tau'),
        (dict(class_weight='balanced'), 'class_weight'),
    ],
)
def test_values_out_of_range_name_the_key(kwargs, key):
    with pytest.raises(UserError, match=key):
        HybridKDLoss(**kwargs)


def test_two_halves_with_class_weights_make_the_gradient_of_the_whole():
    s, t, y, fs, ft = tensors(n=8)
    loss = HybridKDLoss(class_weight=[1.0, 0.5, 2.0, 3.0, 0.1, 1.0])

    def gradient(part):
        preds = torch.tensor(s[part], requires_grad=True)
        found = loss(
            preds,
            torch.tensor(t[part]),
            torch.tensor(y[part]),
            torch.tensor(fs[part]),
            torch.tensor(ft[part]),
        )
        sum(found.values()).backward()
        return preds.grad

    halves = [gradient(slice(0, 4)), gradient(slice(4, 8))]
    torch.testing.assert_close(
        torch.cat(halves) / 2, gradient(slice(0, 8)), rtol=1e-5, atol=1e-7
    )
