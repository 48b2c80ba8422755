# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DISTLoss against its two correlations, in float64."""

import math

import numpy as np
import pytest
import torch
from naive_logits import batch, gradient, run, softmax

from hkd_mm.errors import UserError
from hkd_mm.models.losses import distill_loss
from hkd_mm.models.losses.correlation_losses import DISTLoss


def pearson(x, y):
    mx, my = sum(x) / len(x), sum(y) / len(y)
    both = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    vx = sum((a - mx) ** 2 for a in x)
    vy = sum((b - my) ** 2 for b in y)
    return both / math.sqrt(vx * vy)


def naive(s, t, tau, beta, gamma):
    ps = [softmax(row, tau) for row in s]
    pt = [softmax(row, tau) for row in t]
    inter = [1 - pearson(a, b) for a, b in zip(ps, pt, strict=True)]
    intra = [1 - pearson(a, b) for a, b in zip(zip(*ps), zip(*pt))]
    return tau**2 * (beta * np.mean(inter) + gamma * np.mean(intra))


@pytest.mark.parametrize(
    'tau, beta, gamma, weight',
    [(1.0, 1.0, 1.0, 2.0), (4.0, 1.0, 1.0, 1.0), (2.0, 0.0, 3.0, 1.0)]
    + [(1.0, 2.0, 0.0, 0.5)],
)
def test_the_formula(tau, beta, gamma, weight):
    s, t, _ = batch(n=9)
    found = run(DISTLoss(tau, beta, gamma, loss_weight=weight), s, t)
    expected = weight * naive(s, t, tau, beta, gamma)
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_case_by_hand():
    # Sample 1: T - mean = (5, -1, -4) / 30, S - mean = (-1, 5, -4) / 30,
    # rho = (-5 - 5 + 16) / 42 = 1/7; sample 2 is equal: L_inter = 3/7.
    # Of two samples rho is the sign of the step: class 0 falls in both,
    # class 1 rises in T and falls in S, class 2 rises: L_intra = 2/3.
    t = np.log([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4]])
    s = np.log([[0.3, 0.5, 0.2], [0.2, 0.4, 0.4]])
    assert run(DISTLoss(), s, t) == pytest.approx(3 / 7 + 2 / 3, rel=1e-5)


def test_likeness_is_rewarded_not_punished():
    s, _, _ = batch(n=9)
    same, opposite = run(DISTLoss(), s, s), run(DISTLoss(), s, -s)
    assert same == pytest.approx(0, abs=1e-5)
    assert opposite > 1.5


def test_improbable_classes_that_agree_are_alike():
    # three of the classes have probabilities near 1e-6 in the whole batch
    s, _, _ = batch(n=9, scale=1.0)
    s[:, 3:] -= 14
    assert run(DISTLoss(), s, s) == pytest.approx(0, abs=1e-3)


def test_two_classes_leave_only_the_samples_within_a_class():
    s, t, _ = batch(n=9, c=2, scale=1.0)
    t = torch.tensor(t, dtype=torch.float32)
    with pytest.warns(UserWarning, match='2 classes'):
        rows = gradient(lambda s: DISTLoss(gamma=0.0)(s, t), s)
    with pytest.warns(UserWarning, match='gamma'):
        columns = gradient(lambda s: DISTLoss(beta=0.0)(s, t), s)
    assert rows.abs().max() < 1e-5 < 1e-3 < columns.abs().max()


def test_gathering_makes_the_loss_of_the_whole_batch(monkeypatch):
    s, t, _ = batch(n=12)
    whole = {
        float(part[0, 0]): torch.tensor(part, dtype=torch.float32) for part in (s, t)
    }

    def gather(tensor):
        for first, found in whole.items():
            if math.isclose(first, tensor[0, 0].item(), rel_tol=1e-5):
                return found
        raise AssertionError('neither of the two inputs')

    monkeypatch.setattr(distill_loss, 'gather_batch', gather)
    found = run(DISTLoss(gather=True), s[:6], t[:6])
    assert found == pytest.approx(naive(s, t, 1, 1, 1), rel=1e-5)
    alone = run(DISTLoss(gather=False), s[:6], t[:6])
    assert alone == pytest.approx(naive(s[:6], t[:6], 1, 1, 1), rel=1e-5)


def test_few_samples_are_warned_about():
    s, t, _ = batch(n=7)
    with pytest.warns(UserWarning, match='raise batch_size'):
        run(DISTLoss(), s, t)


@pytest.mark.parametrize('word', ['tau', 'beta', 'gamma'])
def test_values_out_of_range(word):
    with pytest.raises(UserError, match=word):
        DISTLoss(**{word: -1.0})
