# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Balanced softmax and the corrected teacher against the papers, in float64."""

import math

import numpy as np
import pytest
import torch
from naive_logits import as_labels, batch, cross_entropy, kl, mixed_targets, softmax

from hkd_mm.errors import UserError
from hkd_mm.models.losses.kd_losses import KLLoss
from hkd_mm.models.losses.label_losses import HardLabelLoss
from hkd_mm.models.losses.prior_losses import BalancedSoftmaxLoss, PriorCorrectedKLLoss

PRIOR = [0.5, 0.2, 0.15, 0.1, 0.04, 0.01]


def tensors(*arrays):
    return [torch.tensor(np.asarray(a), dtype=torch.float32) for a in arrays]


@pytest.mark.parametrize('strength', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('mixed', [False, True])
def test_balanced_softmax_is_the_formula(strength, mixed):
    s, _, y = batch()
    y = mixed_targets() if mixed else y
    expected = 0.0
    for z, label in zip(s, y, strict=True):
        # the paper: n_y exp(z_y) / sum_c n_c exp(z_c)
        weighed = [v + strength * math.log(p) for v, p in zip(z, PRIOR, strict=True)]
        expected += cross_entropy(weighed, label) / len(s)
    loss = BalancedSoftmaxLoss(strength, PRIOR, loss_weight=2.0)
    found = loss(*tensors(s), as_labels(y)).item()
    assert found == pytest.approx(2 * expected, rel=1e-5)


@pytest.mark.parametrize('tau, strength', [(1.0, 1.0), (4.0, 0.5)])
def test_the_corrected_teacher_is_the_formula(tau, strength):
    s, t, _ = batch()
    expected = 0.0
    for a, b in zip(s, t, strict=True):
        bare = [v - strength * math.log(p) for v, p in zip(b, PRIOR, strict=True)]
        expected += tau**2 * kl(softmax(bare, tau), softmax(a, tau)) / len(s)
    found = PriorCorrectedKLLoss(strength, PRIOR, tau)(*tensors(s, t)).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_cases_by_hand():
    # equal scores, 3 images of class 0 and 1 of class 1: log 4/3 and log 4
    loss = BalancedSoftmaxLoss(class_prior=[0.75, 0.25])
    for label, expected in ((0, 4 / 3), (1, 4)):
        found = loss(torch.zeros(1, 2), torch.tensor([label])).item()
        assert found == pytest.approx(math.log(expected), rel=1e-5)
    # a teacher that says nothing but its prior says nothing
    teacher = torch.tensor([[0.75, 0.25]]).log()
    found = PriorCorrectedKLLoss(class_prior=[0.75, 0.25])(torch.zeros(1, 2), teacher)
    assert found.item() == pytest.approx(0, abs=1e-6)


def test_both_losses_want_the_same_student():
    # p(x | y) of three images under two classes; a teacher of plain
    # cross-entropy says log p(x | y) + log prior
    likelihood = torch.tensor([[0.6, 0.1], [0.3, 0.3], [0.1, 0.6]])
    prior = torch.tensor([0.9, 0.1])
    joint = likelihood * prior
    s = likelihood.log().requires_grad_()
    PriorCorrectedKLLoss(class_prior=prior.tolist())(s, joint.log()).backward()
    assert s.grad.abs().max() < 1e-6
    # balanced softmax over the population: images drawn with p(x), labels given x
    s.grad = None
    loss = BalancedSoftmaxLoss(class_prior=prior.tolist())
    seen = joint.sum(1, keepdim=True)
    for row, share, labels in zip(s, seen, joint / seen, strict=True):
        (share * loss(row[None], labels[None])).backward()
    assert s.grad.abs().max() < 1e-6


def test_equal_shares_are_the_plain_losses():
    s, t, y = batch()
    (s, t), y = tensors(s, t), torch.tensor(y)
    equal = dict(class_prior=[1 / 6] * 6)
    torch.testing.assert_close(
        BalancedSoftmaxLoss(**equal)(s, y), HardLabelLoss()(s, y)
    )
    torch.testing.assert_close(PriorCorrectedKLLoss(**equal)(s, t), KLLoss()(s, t))


def test_a_prior_of_other_classes_and_none():
    s = torch.zeros(2, 6)
    with pytest.raises(UserError, match='one number for each of the 6 classes'):
        PriorCorrectedKLLoss(class_prior=[0.5, 0.5])(s, s)
    with pytest.warns(UserWarning, match="class_prior='train'"):
        PriorCorrectedKLLoss()(s, s)
    with pytest.raises(UserError, match='class_prior'):
        BalancedSoftmaxLoss(class_prior=[1.0, 0.0])
