# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""BYOTLoss: its three parts over the branches' outputs, and its branches."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.models.losses.self_distill_losses import BYOTLoss

SHAPES = [(1, 4, 8, 8), (1, 6, 4, 4), (1, 8, 2, 2)]


class Net(nn.Module):
    """Ends in a linear layer, as mmpretrain's classifiers."""

    def __init__(self, classes=5):
        super().__init__()
        self.backbone = nn.Identity()
        self.head = nn.Module()
        self.head.fc = nn.Linear(8, classes)


def loss_for(shapes=SHAPES, **kwargs):
    torch.manual_seed(0)
    loss = BYOTLoss(**kwargs)
    loss.attach(Net(), None)
    loss.build(shapes)
    return loss


def batch(n=6, c=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(n, *s[1:], generator=generator) for s in SHAPES]
    scores = torch.randn(n, c, generator=generator) * 2
    return scores, torch.arange(n) % c, maps


def log_softmax(z):
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def naive(scores, y, deepest, outputs, alpha, beta, tau):
    """Equations (2) to (5) from what the branches say."""
    label = self_ = hint = 0.0
    t = log_softmax(scores / tau)
    for logits, like in outputs:
        log_q, q = log_softmax(logits), log_softmax(logits / tau)
        for i, k in enumerate(y):
            label -= log_q[i, k] / len(y)
            self_ += tau**2 * sum(
                math.exp(t[i, c]) * (t[i, c] - q[i, c])
                for c in range(scores.shape[1])
            ) / len(y)  # fmt: skip
        hint += np.mean((like - deepest) ** 2)
    return (1 - alpha) * label, alpha * self_, beta * hint


@pytest.mark.parametrize(
    'alpha, beta, tau', [(0.3, 0.03, 3.0), (1.0, 2.0, 1.0), (0.0, 0.0, 4.0)]
)
def test_the_parts_equal_the_paper(alpha, beta, tau):
    scores, y, maps = batch()
    loss = loss_for(alpha=alpha, beta=beta, tau=tau)
    outputs = [
        [x.detach().double().numpy() for x in branch(stage, (2, 2))]
        for branch, stage in zip(loss.branches, maps)
    ]
    assert [like.shape for _, like in outputs] == [(6, 8, 2, 2)] * 2
    expected = naive(
        scores.double().numpy(), y.tolist(), maps[-1].double().numpy(),
        outputs, alpha, beta, tau,
    )  # fmt: skip
    found = loss(scores, y, maps)
    for name, value in zip(
        ('loss_label', 'loss_self', 'loss_hint'), expected, strict=True
    ):
        assert found[name].item() == pytest.approx(value, rel=1e-5, abs=1e-7)


def test_class_weights_are_the_labels():
    scores, y, maps = batch()
    weight = [0.5, 3.0, 0.0, 1.0, 2.0]
    plain, weighted = loss_for(), loss_for(class_weight=weight)
    expected = 0.0
    for branch, stage in zip(plain.branches, maps):
        log_q = log_softmax(branch(stage, (2, 2))[0].detach().double().numpy())
        expected -= np.mean([weight[k] * log_q[i, k] for i, k in enumerate(y)])
    again, found = loss_for()(scores, y, maps), weighted(scores, y, maps)
    assert found['loss_label'].item() == pytest.approx(0.7 * expected, rel=1e-5)
    for part in ('loss_self', 'loss_hint'):
        torch.testing.assert_close(found[part], again[part])
    # of mixed images torch weighs each class of the targets
    targets = torch.nn.functional.one_hot(y, 5).float()
    mixed = loss_for(class_weight=weight)(scores, targets, maps)
    torch.testing.assert_close(mixed, found)
    with pytest.raises(UserError, match='class_weight.* 5 classes'):
        loss_for(class_weight=[1.0, 2.0])(scores, y, maps)


def test_a_case_by_hand():
    # silent branches: all their scores 0, all their maps 0; the network says
    # (3/4, 1/4); deepest map 2 everywhere. Two branches, alpha 1/2, beta 1,
    # tau 1: ln 2, 0.130812, 2 * 4
    loss = BYOTLoss(alpha=0.5, beta=1.0, tau=1.0)
    loss.attach(Net(classes=2), None)
    loss.build(SHAPES)
    for parameter in loss.parameters():
        nn.init.zeros_(parameter)
    scores = torch.tensor([[math.log(3.0), 0.0]] * 2)
    maps = [torch.full((2, *s[1:]), 2.0) for s in SHAPES]
    found = loss(scores, torch.tensor([0, 1]), maps)
    assert found['loss_label'].item() == pytest.approx(math.log(2), abs=1e-6)
    assert found['loss_self'].item() == pytest.approx(0.130812, abs=1e-6)
    assert found['loss_hint'].item() == pytest.approx(8.0)


def test_the_deepest_only_teaches():
    scores, y, maps = batch()
    scores.requires_grad_()
    for stage in maps:
        stage.requires_grad_()
    loss = loss_for()
    sum(loss(scores, y, maps).values()).backward()
    assert scores.grad is None and maps[-1].grad is None
    assert all(stage.grad.abs().max() > 0 for stage in maps[:-1])
    assert all(p.grad is not None for p in loss.parameters())


def test_a_branch_for_each_stage_but_the_last_and_no_network_inside():
    loss = loss_for()
    assert len(loss.branches) == 2
    assert {name.split('.')[0] for name in loss.state_dict()} == {'branches'}
    again = loss_for()
    again.load_state_dict(loss.state_dict(), strict=True)


def test_one_map_has_nothing_to_learn_from():
    with pytest.raises(UserError, match='two stages'):
        loss_for(SHAPES[:1])


@pytest.mark.parametrize(
    'kwargs', [dict(alpha=1.1), dict(beta=-1.0), dict(tau=0.0)]
)  # fmt: skip
def test_values_out_of_range_name_the_key(kwargs):
    with pytest.raises(UserError, match=next(iter(kwargs))):
        BYOTLoss(**kwargs)
