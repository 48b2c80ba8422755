# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""CATKDLoss against the paper, written out in float64."""

import math

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from naive_maps import resize

from hkd_mm.errors import UserError
from hkd_mm.models.losses.attention_losses import CATKDLoss
from hkd_mm.models.recorders.network_recorders import LastMapRecorder


def naive_maps(feature, weight, size):
    """Class activation maps as the definition has them, then pooled."""
    n, c, height, width = feature.shape
    maps = np.zeros((n, len(weight), height, width))
    for i, k, h, w in np.ndindex(maps.shape):
        maps[i, k, h, w] = sum(weight[k, j] * feature[i, j, h, w] for j in range(c))
    maps = resize(maps, size, size)
    for i in range(n):
        for k in range(len(weight)):
            maps[i, k] /= math.sqrt(np.sum(maps[i, k] ** 2))
    return maps


def naive(s, t, weight_s, weight_t, size):
    mine, other = naive_maps(s, weight_s, size), naive_maps(t, weight_t, size)
    return np.mean((mine - other) ** 2)


class Net(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.backbone = torch.nn.Identity()
        self.head = torch.nn.Module()
        self.head.fc = torch.nn.Linear(*weight.shape[::-1])
        with torch.no_grad():
            self.head.fc.weight.copy_(torch.as_tensor(weight))


def attached(weight_s, weight_t, **kwargs):
    loss = CATKDLoss(**kwargs)
    networks = Net(weight_s), Net(weight_t)
    loss.attach(*networks)
    return loss, *networks


def tensors(*arrays):
    return [torch.tensor(x, dtype=torch.float32) for x in arrays]


@pytest.mark.parametrize(
    'size, weight, sides',
    [(2, 1.0, (4, 4)), (2, 40.0, (8, 5)), (3, 2.0, (7, 3)), (1, 1.0, (4, 2))],
)
def test_the_loss_equals_the_paper(size, weight, sides):
    rng = np.random.default_rng(0)
    s = rng.normal(size=(3, 4, sides[0], sides[0]))
    t = rng.normal(size=(3, 6, sides[1], sides[1]))
    last = rng.normal(size=(5, 4)), rng.normal(size=(5, 6))
    loss, *_ = attached(*last, size=size, loss_weight=weight)
    expected = weight * naive(s, t, *last, size)
    assert loss(*tensors(s, t)).item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_a_case_by_hand():
    # one class, weight 1: the maps are (3, 4, 0, 0) / 5 and (0, 0, 0, 2) / 2;
    # squares 0.36 + 0.64 + 0 + 1 = 2, over 4 places 0.5
    one = np.ones((1, 1))
    loss, *_ = attached(one, one)
    s = torch.tensor([3.0, 4.0, 0.0, 0.0]).view(1, 1, 2, 2)
    t = torch.tensor([0.0, 0.0, 0.0, 2.0]).view(1, 1, 2, 2)
    assert loss(s, t).item() == pytest.approx(0.5)


def test_equal_networks_give_zero_whatever_their_scale():
    weight = np.random.default_rng(0).normal(size=(5, 4))
    loss, *_ = attached(weight, 3 * weight)
    s = torch.randn(2, 4, 4, 4, requires_grad=True)
    value = loss(s, 7 * s.detach())
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert s.grad.abs().max() < 1e-6


def test_an_activation_of_zero_has_a_finite_gradient():
    loss, *_ = attached(np.zeros((5, 4)), np.ones((5, 4)))
    s = torch.zeros(2, 4, 4, 4, requires_grad=True)
    loss(s, torch.randn(2, 4, 4, 4)).backward()
    assert s.grad.isfinite().all()


def test_the_student_layer_learns_and_the_teacher_layer_does_not():
    rng = np.random.default_rng(0)
    loss, student, teacher = attached(*rng.normal(size=(2, 5, 4)))
    loss(*torch.randn(2, 2, 4, 4, 4)).backward()
    assert student.head.fc.weight.grad.any()
    assert teacher.head.fc.weight.grad is None
    assert not list(loss.parameters())


def test_a_map_that_the_layer_does_not_take_is_refused():
    loss, *_ = attached(np.ones((5, 4)), np.ones((5, 6)))
    with pytest.raises(UserError, match='hkd_mm.LastMap'):
        loss(torch.randn(2, 3, 4, 4), torch.randn(2, 6, 4, 4))
    with pytest.raises(UserError, match='size'):
        CATKDLoss(size=0)


@pytest.mark.parametrize(
    'network',
    [
        dict(type='hkd_mm.TimmClassifier', model_name='mobilenetv2_050'),
        dict(type='hkd_mm.TimmClassifier', model_name='darknet53'),
        dict(type='hkd_mm.TimmClassifier', model_name='repvit_m0_9'),
        dict(
            type='hkd_mm.ImageClassifier',
            backbone=dict(type='hkd_mm.CIFARResNet', depth=8),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=64),
        ),
    ],
    ids=lambda network: network.get('model_name', 'resnet8'),
)
def test_the_recorded_map_is_what_the_last_layer_is_given(network):
    init_default_scope('mmpretrain')
    network = MODELS.build(network).eval()
    recorder = LastMapRecorder()
    recorder.initialize(network)
    images = torch.randn(2, 3, 64, 64)
    with recorder, torch.no_grad():
        logits = network(images, mode='tensor')
    found = recorder.get_record_data().mean((2, 3))
    if hasattr(network, 'backbone'):
        again = network.head.fc(found)
    else:
        again = network.model.get_classifier()(found)
    torch.testing.assert_close(again, logits)
