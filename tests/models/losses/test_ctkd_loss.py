# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""CTKDLoss: value, reversed gradient and curriculum."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hkd_mm.engine.hooks.distill_hooks import LossScheduleHook
from hkd_mm.errors import UserError
from hkd_mm.models.losses.kd_losses import CTKDLoss


def naive(s, t, tau):
    total = 0.0
    for a, b in zip(s, t):
        q, p = (np.exp(x / tau) / np.exp(x / tau).sum() for x in (a, b))
        total += sum(p[k] * math.log(p[k] / q[k]) for k in range(len(a)))
    return tau**2 * total / len(s)


def scores(n=5, c=6):
    return np.random.default_rng(0).normal(size=(2, n, c)) * 3


@pytest.mark.parametrize('tau, low, width', [(15.6, 1, 20), (4, 1, 20), (2, 1, 5)])
def test_it_equals_the_formula(tau, low, width):
    s, t = scores()
    loss = CTKDLoss(tau, tau_min=low, tau_range=width)
    assert loss.temperature.item() == pytest.approx(tau, rel=1e-6)
    value = loss(torch.tensor(s), torch.tensor(t))
    assert value.item() == pytest.approx(naive(s, t, tau), rel=1e-5)


def test_a_case_by_hand():
    # w = 1 gives tau = 1 + 20 / (1 + e^-1) = 15.62117
    loss = CTKDLoss()
    with torch.no_grad():
        loss.w.fill_(1.0)
    assert loss.temperature.item() == pytest.approx(15.62117, abs=1e-4)
    # w = 0, range 2: tau = 2; p_T = (3/4, 1/4) and p_S = (1/2, 1/2) at it:
    # 4 * 0.130812
    loss = CTKDLoss(tau=2.0, tau_range=2.0)
    value = loss(torch.zeros(1, 2), torch.tensor([[2 * math.log(3), 0.0]]))
    assert value.item() == pytest.approx(0.523248, abs=1e-5)


@pytest.mark.parametrize('strength', [0.0, 0.3, 1.0])
def test_the_gradient_of_the_temperature_is_reversed(strength):
    s, t = scores()
    loss = CTKDLoss(tau=6.0, reversal=strength)
    preds = torch.tensor(s, dtype=torch.float32, requires_grad=True)
    loss(preds, torch.tensor(t)).backward()
    step = 1e-4
    upper, lower = (naive(s, t, 6.0 + d) for d in (step, -step))
    share = (6.0 - 1) / 20
    slope = (upper - lower) / (2 * step) * 20 * share * (1 - share)
    assert loss.w.grad.item() == pytest.approx(-strength * slope, rel=1e-3)
    # the student's own gradient is that of plain KD, not reversed
    again = preds.detach().clone().requires_grad_()
    CTKDLoss(tau=6.0, reversal=1.0)(again, torch.tensor(t)).backward()
    torch.testing.assert_close(preds.grad, again.grad)


def test_a_step_makes_it_harder_for_the_student():
    s, t = (torch.tensor(x) for x in scores())
    loss = CTKDLoss(tau=6.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    before = loss(s, t)
    before.backward()
    optimizer.step()
    assert loss(s, t) > before


def test_the_temperature_is_trained_and_saved():
    loss = CTKDLoss(tau=3.0)
    assert [name for name, _ in loss.named_parameters()] == ['w']
    other = CTKDLoss()
    other.load_state_dict(loss.state_dict())
    assert other.temperature.item() == pytest.approx(3.0)


def test_the_curriculum_is_the_papers():
    # equation (9): (1 + cos((1 + min(E, 10) / 10) pi)) / 2
    hook = LossScheduleHook('loss_ctkd', 10, 'cosine', start=0.0, word='reversal')
    loss = CTKDLoss()
    model = SimpleNamespace(
        distiller=SimpleNamespace(distill_losses=dict(loss_ctkd=loss))
    )
    runner = SimpleNamespace(model=model, epoch=0)
    hook.before_train(runner)
    for epoch in range(13):
        runner.epoch = epoch
        hook.before_train_epoch(runner)
        expected = (1 + math.cos((1 + min(epoch, 10) / 10) * math.pi)) / 2
        assert loss.reversal == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    'kwargs', [dict(tau=1.0), dict(tau=21.0), dict(tau_min=0),
               dict(tau_range=0), dict(reversal=-1)]
)  # fmt: skip
def test_values_out_of_range_name_the_key(kwargs):
    with pytest.raises(UserError, match=next(iter(kwargs))):
        CTKDLoss(**kwargs)
