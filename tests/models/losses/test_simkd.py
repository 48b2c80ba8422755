# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""SimKD: the loss, and the network that is validated, saved and deployed."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

from hkd_mm.config.compose import load_config
from hkd_mm.config.networks import apply_network_names
from hkd_mm.engine.student_export import student_config
from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import student_state_dict
from hkd_mm.models.connectors.mgd_connectors import ResizeConnector
from hkd_mm.models.losses.classifier_reuse_losses import SimKDLoss

CONFIG = (
    Path(__file__).parents[3] / 'configs' / 'zoo' / 'simkd' / 'simkd_wrn50_mbv2_skin.py'
)


def naive(s, t):
    total = 0.0
    for place in np.ndindex(s.shape):
        total += (s[place] - t[place]) ** 2
    return total / s.size


@pytest.mark.parametrize('weight', [1.0, 3.0])
def test_the_loss_equals_the_paper(weight):
    s, t = np.random.default_rng(0).normal(size=(2, 3, 4, 3, 2))
    found = SimKDLoss(loss_weight=weight)(
        *(torch.tensor(x, dtype=torch.float32) for x in (s, t))
    )
    assert found.item() == pytest.approx(weight * naive(s, t), rel=1e-5)


def test_a_case_by_hand():
    # differences 1 and 3: (1 + 9) / 2
    s = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    assert SimKDLoss()(s, torch.zeros_like(s)).item() == pytest.approx(5.0)


@pytest.fixture(scope='module')
def config():
    init_default_scope('mmpretrain')
    cfg = load_config(CONFIG, ['pair=demo'], read_data=False)
    cfg.model.data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
    return cfg


@pytest.fixture(scope='module')
def model(config):
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()  # as the runner does, after the layer was handed over
    return model


def train_a_step(model):
    model.train()
    model.teacher_cache = None  # of packed images
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1
    )
    samples = [DataSample().set_gt_label(i % 5) for i in range(4)]
    losses = model.loss(torch.randn(4, 3, 64, 64), samples)
    sum(losses.values()).backward()
    optimizer.step()


def test_the_teacher_layer_is_reused_and_stays_as_it_is(model):
    last = model.teacher.model.get_classifier()
    project = model.student.backbone.project[0].weight.clone()
    train_a_step(model)
    own = model.student.head.fc
    assert torch.equal(own.weight, last.weight)
    assert torch.equal(own.bias, last.bias)
    assert not torch.equal(model.student.backbone.project[0].weight, project)


def test_a_perfect_map_gives_the_scores_of_the_teacher(model):
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        feature = model.teacher.model.forward_features(images)
        mine = model.student.head((feature.mean((2, 3)),))
        teachers = model.teacher(images, mode='tensor')
    torch.testing.assert_close(mine, teachers)


def test_the_export_holds_the_whole_deployed_network(model, config):
    train_a_step(model)
    state = student_state_dict(dict(state_dict=model.state_dict()))
    alone = MODELS.build(student_config(config.model))
    alone.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 64, 64)
    outputs = [
        network.eval()(images, mode='tensor') for network in (alone, model.student)
    ]
    torch.testing.assert_close(*outputs)
    assert {x.partition('.')[0] for x in state} == {'backbone', 'head'}
    assert not any('classifier' in x for x in state)


def test_other_networks_by_name_are_put_into_the_student(config):
    cfg = deepcopy(config)
    cfg.teacher_config = None
    names = dict(student='resnet8', teacher='shufflenetv2')
    apply_network_names(cfg, names, None)
    assert cfg.model.architecture.type == 'hkd_mm.SimKDClassifier'
    assert cfg.model.architecture.student.backbone.depth == 8
    for network in (cfg.model.teacher, cfg.model.architecture.teacher):
        assert network.backbone.type == 'hkd_mm.ShuffleNetV2'
    model = MODELS.build(cfg.model)
    train_a_step(model)
    mine, teachers = model.student.head.fc, model.teacher.head.fc
    assert torch.equal(mine.weight, teachers.weight)


def test_a_student_that_cannot_take_the_layer_is_refused(model):
    with pytest.raises(UserError, match='SimKDClassifier'):
        SimKDLoss().attach(model.teacher, model.teacher)


def test_a_layer_of_another_size_is_refused(model):
    with pytest.raises(UserError, match='architecture.teacher'):
        model.student.reuse_last_layer(torch.nn.Linear(7, 5))


def test_a_layer_without_bias_is_taken(config):
    network = MODELS.build(config.model.architecture)
    network.reuse_last_layer(torch.nn.Linear(512, 5, bias=False))
    assert not network.head.fc.bias.any()


def test_values_out_of_range_name_the_key(config):
    with pytest.raises(UserError, match='reduction'):
        MODELS.build({**config.model.architecture, 'reduction': 0})


def test_maps_are_resized_and_nothing_else():
    connector = ResizeConnector()
    connector.build((1, 3, 4, 4), (1, 3, 2, 2))
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    assert connector(ramp).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert not list(connector.parameters())
    with pytest.raises(UserError, match='FeatureAlignConnector'):
        ResizeConnector().build((1, 3, 4, 4), (1, 5, 4, 4))
