# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ClassWeightedKLLoss against its formula, in float64."""

import math

import numpy as np
import pytest
import torch
from naive_logits import batch, gradient, kl, mixed_targets, run, softmax

from hkd_mm.datasets.class_weights import balanced_weights
from hkd_mm.errors import UserError
from hkd_mm.models.losses.kd_losses import KLLoss
from hkd_mm.models.losses.label_losses import ClassWeightedKLLoss

WEIGHT = [1.0, 0.5, 2.0, 3.0, 0.1, 0.0]


def naive(s, t, y, tau, weight):
    total = 0.0
    for i in range(len(s)):
        own = (
            weight[y[i]]
            if np.ndim(y) == 1
            else sum(a * w for a, w in zip(y[i], weight, strict=True))
        )
        total += own * kl(softmax(t[i], tau), softmax(s[i], tau))
    return tau**2 * total / len(s)


@pytest.mark.parametrize('tau, factor', [(4.0, 0.9), (1.0, 1.0), (2.0, 3.0)])
@pytest.mark.parametrize('mixed', [False, True])
def test_the_formula(tau, factor, mixed):
    s, t, y = batch(n=7)
    y = mixed_targets(n=7) if mixed else y
    found = run(ClassWeightedKLLoss(tau, WEIGHT, loss_weight=factor), s, t, y)
    expected = factor * naive(s, t, y, tau, WEIGHT)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    'labels, expected',
    [
        # KL of sample 1 = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812, of sample 2
        # 0; by label 2 * 0.130812 / 2, mixed (2 + 5) / 2 * 0.130812 / 2
        ([0, 1], 0.130812),
        ([[0.5, 0.5], [0.0, 1.0]], 0.228921),
    ],
)
def test_a_case_by_hand(labels, expected):
    loss = ClassWeightedKLLoss(tau=1.0, class_weight=[2.0, 5.0])
    found = run(loss, [[0, 0], [4, 1]], [[math.log(3), 0], [4, 1]], labels)
    assert found == pytest.approx(expected, abs=1e-6)


def test_without_weights_it_is_plain_kd():
    s, t, y = batch()
    expected = run(KLLoss(3.0), s, t)
    for weight in (None, [1.0] * 6):
        found = run(ClassWeightedKLLoss(3.0, weight), s, t, y)
        assert found == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_give_every_class_one_share():
    # 8 images of class 0, 2 of class 1, all as far from their teacher
    y = np.array([0] * 8 + [1] * 2)
    s = np.zeros((10, 2))
    t = np.array([[1.0, 0.0]] * 8 + [[0.0, 1.0]] * 2)
    weight = balanced_weights([8, 2])
    found = gradient(
        lambda s: ClassWeightedKLLoss(1.0, weight)(
            s, torch.tensor(t, dtype=torch.float32), torch.tensor(y)
        ),
        s,
    )
    shares = [found[y == label].abs().sum().item() for label in (0, 1)]
    assert shares[0] == pytest.approx(shares[1], rel=1e-5)
    assert shares[0] > 0.1


def test_weights_do_not_move_the_minimum_from_the_teacher():
    _, t, y = batch()
    teacher = torch.tensor(t, dtype=torch.float32)
    loss = ClassWeightedKLLoss(2.0, [1.0, 9.0, 0.1, 4.0, 3.0, 2.0])
    found = gradient(lambda s: loss(s, teacher, torch.tensor(y)), t)
    assert found.abs().max() < 1e-6


def test_two_halves_make_the_gradient_of_the_whole():
    s, t, y = batch(n=8)
    loss = ClassWeightedKLLoss(class_weight=WEIGHT)
    t, y = torch.tensor(t, dtype=torch.float32), torch.tensor(y)
    halves = [
        gradient(lambda s, p=part: loss(s, t[p], y[p]), s[part])
        for part in (slice(0, 4), slice(4, 8))
    ]
    torch.testing.assert_close(
        torch.cat(halves) / 2, gradient(lambda s: loss(s, t, y), s)
    )


@pytest.mark.parametrize(
    'kwargs, key',
    [
        (dict(tau=0), 'tau'),
        (dict(class_weight='balanced'), 'class_weight'),
        (dict(class_weight=[1.0, -0.5]), 'class_weight'),
    ],
)
def test_values_out_of_range(kwargs, key):
    with pytest.raises(UserError, match=key):
        ClassWeightedKLLoss(**kwargs)


@pytest.mark.parametrize('weight', [WEIGHT[:5], [*WEIGHT, 1.0]])
def test_as_many_weights_as_classes(weight):
    with pytest.raises(UserError, match='classes'):
        run(ClassWeightedKLLoss(class_weight=weight), *batch())


def test_a_label_out_of_range_is_refused_with_weights_too():
    s, t, y = batch()
    for wrong in (-1, 6):
        with pytest.raises((IndexError, RuntimeError)):
            run(
                ClassWeightedKLLoss(class_weight=WEIGHT),
                s,
                t,
                np.where(np.arange(7) == 3, wrong, y),
            )


def test_the_weights_are_in_no_checkpoint():
    assert not ClassWeightedKLLoss(class_weight=WEIGHT).state_dict()
