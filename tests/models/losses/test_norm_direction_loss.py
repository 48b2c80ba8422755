# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""NormDirectionLoss: the formula, and class centres that run along."""

import numpy as np
import pytest
import torch
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.models.losses.classifier_reuse_losses import NormDirectionLoss


class Net(nn.Module):
    """Ends in a linear layer, as mmpretrain's classifiers."""

    def __init__(self, channels, classes):
        super().__init__()
        self.backbone = nn.Identity()
        self.head = nn.Module()
        self.head.fc = nn.Linear(channels, classes)


def loss_for(channels, classes, **kwargs):
    loss = NormDirectionLoss(**kwargs)
    loss.attach(Net(3, classes), Net(channels, classes))
    return loss


def naive(s, t, y, seen_t, seen_y):
    """Sample by sample, the centres over all that was seen."""
    total = 0.0
    for a, b, k in zip(s, t, y):
        members = [f for f, label in zip(seen_t, seen_y) if label == k]
        centre = sum(members) / len(members)
        unit = centre / np.linalg.norm(centre)
        longest = max(np.linalg.norm(a), np.linalg.norm(b))
        total += 1 - float(a @ unit) / longest
    return total / len(s)


def batches(count=4, n=6, d=5, c=3, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield (
            rng.normal(size=(n, d)) * rng.uniform(0.2, 3),
            rng.normal(size=(n, d)) + 1,
            rng.integers(0, c, n),
        )


def call(loss, s, t, y):
    return loss(torch.tensor(s), torch.tensor(t), torch.tensor(y)).item()


@pytest.mark.parametrize('n, d, c', [(6, 5, 3), (1, 4, 2), (9, 3, 12)])
def test_it_equals_the_formula_with_the_means_so_far(n, d, c):
    loss = loss_for(d, c)
    seen_t, seen_y = [], []
    for s, t, y in batches(n=n, d=d, c=c):
        seen_t, seen_y = [*seen_t, *t], [*seen_y, *y]
        expected = naive(s, t, y, seen_t, seen_y)
        assert call(loss, s, t, y) == pytest.approx(expected, rel=1e-5)


def test_a_case_by_hand():
    # class 0: centre (3, 4), e = (0.6, 0.8); s = (1, 0) is shorter than the
    # teacher's 5: 1 - 0.6 / 5 = 0.88. Class 1: centre (0, 1); s = (3, 4) is
    # the longer: 1 - 4 / 5 = 0.2. Mean 0.54
    found = call(
        loss_for(2, 2),
        np.array([[1.0, 0.0], [3.0, 4.0]]),
        np.array([[3.0, 4.0], [0.0, 1.0]]),
        np.array([0, 1]),
    )
    assert found == pytest.approx(0.54, abs=1e-6)


def test_a_short_student_grows_and_a_long_one_only_turns():
    loss = loss_for(2, 1)
    teacher, label = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    for length, pulls in ((0.5, True), (8.0, False)):
        s = torch.tensor([[length, 0.0]], requires_grad=True)
        loss(s, teacher, label).backward()
        assert (s.grad[0, 0] < -1e-3).item() == pulls
        assert s.grad[0, 1].abs() < 1e-6


def test_nothing_is_counted_in_eval_and_an_unseen_class_pulls_nowhere():
    loss = loss_for(5, 3).eval()
    s, t, y = next(batches())
    preds = torch.tensor(s, requires_grad=True)
    value = loss(preds, torch.tensor(t), torch.tensor(y))
    value.backward()
    assert value.item() == 1 and not preds.grad.any()
    assert not loss.seen.any() and not loss.centres.any()


def test_centres_go_into_the_checkpoint_and_on_from_there():
    data = list(batches())
    whole, first = loss_for(5, 3), loss_for(5, 3)
    for batch in data[:2]:
        call(whole, *batch), call(first, *batch)
    second = loss_for(5, 3)
    second.load_state_dict(first.state_dict(), strict=True)
    for batch in data[2:]:
        assert call(whole, *batch) == call(second, *batch)
    assert second.seen.sum() == 24


def test_a_zero_feature_has_a_finite_gradient():
    loss = loss_for(4, 2)
    s = torch.zeros(2, 4, requires_grad=True)
    value = loss(s, torch.zeros(2, 4), torch.tensor([0, 1]))
    value.backward()
    assert value.item() == 1 and s.grad.isfinite().all()


def test_the_teacher_is_no_part_of_it():
    assert not list(loss_for(4, 2).parameters())


def test_another_feature_than_the_last_layers_is_refused():
    with pytest.raises(UserError, match='t_feature'):
        loss_for(4, 2)(torch.ones(2, 5), torch.ones(2, 5), torch.tensor([0, 1]))
