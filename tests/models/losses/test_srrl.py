# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""SRRLLoss against the paper, written out in float64."""

import numpy as np
import pytest
import torch
from mmpretrain.models import ImageClassifier

from hkd_mm.errors import UserError
from hkd_mm.models.losses.classifier_reuse_losses import SRRLLoss


def naive(s, t, weight, bias, alpha, beta):
    n, c = s.shape
    feature = sum((s[i, j] - t[i, j]) ** 2 for i, j in np.ndindex(n, c))
    score = 0.0
    for i in range(n):
        for k in range(len(weight)):
            mine = sum(weight[k, j] * s[i, j] for j in range(c)) + bias[k]
            other = sum(weight[k, j] * t[i, j] for j in range(c)) + bias[k]
            score += (mine - other) ** 2
    return alpha * feature / (n * c), beta * score / (n * len(weight))


def network(width=5, classes=3, kind='LinearClsHead'):
    torch.manual_seed(0)
    return ImageClassifier(
        backbone=dict(type='mmpretrain.ResNet', depth=18),
        head=dict(type=f'mmpretrain.{kind}', num_classes=classes, in_channels=width),
    )


def attached(teacher, **kwargs):
    loss = SRRLLoss(**kwargs)
    loss.attach(torch.nn.Module(), teacher)
    return loss


def tensors(*arrays):
    return [torch.tensor(x, dtype=torch.float32) for x in arrays]


@pytest.mark.parametrize('alpha, beta, weight', [(1, 1, 1), (0.5, 2, 1), (3, 0.1, 4)])
def test_parts_equal_the_paper(alpha, beta, weight):
    teacher = network()
    s, t = np.random.default_rng(0).normal(size=(2, 4, 5))
    layer = teacher.head.fc
    expected = naive(
        s, t, layer.weight.detach().double().numpy(),
        layer.bias.detach().double().numpy(), alpha, beta,
    )  # fmt: skip
    loss = attached(teacher, alpha=alpha, beta=beta, loss_weight=weight)
    found = loss(*tensors(s, t))
    for key, value in zip(('loss_feature', 'loss_score'), expected, strict=True):
        assert found[key].item() == pytest.approx(weight * value, rel=1e-5)


def test_a_case_by_hand():
    # s - t = (1, 2): mean square 2.5; W (s - t) = (1 + 4) = 5, squared 25
    teacher = network(width=2, classes=1)
    with torch.no_grad():
        teacher.head.fc.weight.copy_(torch.tensor([[1.0, 2.0]]))
    found = attached(teacher)(*tensors([[2.0, 2.0]], [[1.0, 0.0]]))
    assert found['loss_feature'].item() == pytest.approx(2.5)
    assert found['loss_score'].item() == pytest.approx(25.0)


def test_the_teacher_layer_is_neither_owned_nor_trained():
    teacher = network()
    loss = attached(teacher)
    assert not list(loss.parameters()) and not list(loss.children())
    s = torch.randn(4, 5, requires_grad=True)
    sum(loss(s, torch.randn(4, 5)).values()).backward()
    assert s.grad.any() and teacher.head.fc.weight.grad is None


@pytest.mark.parametrize(
    'kwargs, keys',
    [(dict(alpha=0), {'loss_score'}), (dict(beta=0), {'loss_feature'})],
)
def test_a_part_of_weight_0_is_left_out(kwargs, keys):
    assert set(attached(network(), **kwargs)(*torch.randn(2, 4, 5))) == keys


def test_a_feature_that_the_layer_does_not_take_is_refused():
    with pytest.raises(UserError, match='hkd_mm.Pooled'):
        attached(network())(*torch.randn(2, 4, 6))


def test_a_network_without_one_linear_layer_is_refused():
    teacher = network()
    teacher.head.fc = torch.nn.Sequential(torch.nn.Linear(5, 3))
    with pytest.raises(UserError, match='one linear layer'):
        attached(teacher)


@pytest.mark.parametrize(
    'kwargs', [dict(alpha=-1), dict(beta=-1), dict(beta=0, alpha=0)]
)
def test_values_out_of_range_name_the_key(kwargs):
    with pytest.raises(UserError, match=next(iter(kwargs))):
        SRRLLoss(**kwargs)
