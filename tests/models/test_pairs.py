# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Any of the 8 teachers of Hybrid KD with any of its 4 students."""

import copy

import pytest
import torch
from mmengine import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample

from hkd_mm.config.compose import compose_config, load_config
from hkd_mm.config.networks import (
    apply_network_names,
    check_same_network,
    config_root,
    fetch_network_weights,
    network_config,
)
from hkd_mm.config.teacher_options import teacher_options
from hkd_mm.errors import UserError
from hkd_mm.models.networks import backbones, timm_classifier
from hkd_mm.registry import MODELS

TEACHERS = (
    'darknet53',
    'resnet152',
    'repvit_m2_3',
    'efficientnet_b0',
    'efficientnet_b3',
    'efficientnet_b5',
    'wrn50',
    'wrn101',
)
STUDENTS = ('mbv2', 'resnet8', 'shufflenetv2', 'efficientnet_b0')
PAIR = config_root() / 'hybrid_wrn50_mbv2.py'
SIDE = 64  # the smallest that leaves every network more than one pixel


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')


@pytest.fixture(scope='module', params=TEACHERS)
def teacher(request):
    """A teacher built once for its four students."""
    init_default_scope('mmpretrain')
    network = MODELS.build(network_config(request.param, pretrained=False)).eval()
    return request.param, network, copy.deepcopy(network.state_dict())


def pair_config(**names) -> Config:
    """The main job with other networks, from scratch, as the tools read it."""
    options = [f'{role}={name}' for role, name in names.items()]
    if names.get('student') != 'resnet8':  # has no such weights
        options.append('pretrained=False')
    return load_config(PAIR, options, read_data=False)


@pytest.mark.parametrize('student', STUDENTS)
def test_pair_takes_one_step(teacher, student):
    name, network, before = teacher
    cfg = pair_config(teacher=name, student=student)
    torch.manual_seed(0)
    assert cfg.model.teacher.to_dict() == network_config(name, pretrained=False)
    model = MODELS.build(
        {
            **cfg.model,
            'teacher': network,
            'input_size': SIDE,
            'data_preprocessor': dict(
                type='ClsDataPreprocessor',
                mean=cfg.data_preprocessor.mean,
                std=cfg.data_preprocessor.std,
                to_rgb=True,
            ),
            'teacher_cache': None,
        }
    )
    model.train()
    old = copy.deepcopy(dict(model.named_parameters()))
    # large, as two images move some of BatchNorm's weights by 1e-9
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    batch = dict(
        inputs=images,
        data_samples=[DataSample().set_gt_label(i) for i in (1, 4)],
    )
    logs = model.train_step(batch, OptimWrapper(optimizer))

    assert {'distill.loss_kd', 'distill.loss_ce', 'distill.loss_align'} <= set(logs)
    assert all(torch.isfinite(value).all() for value in logs.values())
    for key, value in model.named_parameters():
        assert torch.isfinite(value).all(), key
        assert not torch.equal(old[key], value), key
    assert all(p.grad is None for p in network.parameters())
    for key, value in network.state_dict().items():
        assert torch.equal(before[key], value), key


def test_two_words_make_another_pair(tmp_path):
    cfg = compose_config(PAIR, ['teacher=resnet152', 'student=resnet8'])
    assert cfg.model.teacher.model_name == 'resnet152'
    assert cfg.model.teacher.pretrained is False
    assert cfg.model.architecture.backbone.type == 'hkd_mm.CIFARResNet'
    assert cfg.teacher_config == 'teachers/resnet152_skin.py'
    path = tmp_path / 'other_pair.py'
    path.write_text(f"_base_ = '{PAIR}'\nteacher = 'resnet152'\n")
    with pytest.raises(UserError, match='teacher = .*stands at the top'):
        compose_config(path)


def test_any_network_of_timm_is_a_student_or_a_teacher():
    cfg = compose_config(PAIR, ['teacher=timm:resnet34', 'student=timm:ghostnet_050'])
    assert cfg.model.architecture.model_name == 'ghostnet_050'
    assert cfg.model.architecture.num_classes == 6
    assert cfg.model.teacher.model_name == 'resnet34'
    assert cfg.teacher_config == 'teachers/wrn50_skin.py'
    assert cfg.teacher_network == 'timm:resnet34'
    path = str(config_root() / cfg.teacher_config)
    options, _ = teacher_options(cfg, path, ['student=timm:ghostnet_050'])
    trained = compose_config(path, options).model
    check_same_network(cfg.model.teacher, trained, path)
    alone = config_root() / 'students/mbv2_skin.py'
    found = compose_config(alone, ['network=timm:ghostnet_050']).model
    assert found.model_name == 'ghostnet_050' and found.loss
    with pytest.raises(UserError, match='as timm:ghostnet_050'):
        compose_config(PAIR, ['student=timm:ghostnet_051'])


def test_names_keep_the_number_of_classes():
    cfg = Config.fromfile(PAIR)
    cfg.model.architecture.num_classes = 9
    apply_network_names(cfg, dict(student='shufflenetv2'), None)
    assert cfg.model.architecture.head.num_classes == 9
    assert cfg.model.architecture.backbone.pretrained is True


def test_wrong_names_are_told_in_one_line():
    with pytest.raises(UserError, match="'resnet125'.*mean resnet152.*mbv2"):
        pair_config(teacher='resnet125')
    cfg = Config.fromfile(config_root() / 'students' / 'mbv2_skin.py')
    with pytest.raises(UserError, match="student='resnet8'.*distil"):
        apply_network_names(cfg, dict(student='resnet8'), None)


@pytest.mark.parametrize(
    ('room', 'networks'), [('teachers', TEACHERS), ('students', STUDENTS)]
)
def test_every_network_has_a_config_of_its_own(room, networks):
    for name in networks:
        cfg = Config.fromfile(config_root() / room / f'{name}_skin.py')
        assert cfg.model.to_dict() == network_config(name)
        assert cfg.optim_wrapper.optimizer.lr == 0.05
        assert cfg.train_cfg.max_epochs == cfg.param_scheduler.T_max == 100
        assert cfg.randomness.seed == 42


def test_teacher_config_has_to_train_the_teacher():
    cfg = load_config(PAIR, ['model.teacher.model_name=resnet152'], read_data=False)
    path = str(config_root() / cfg.teacher_config)
    trained = Config.fromfile(path).model
    with pytest.raises(UserError, match='teacher=resnet152 in place of'):
        check_same_network(cfg.model.teacher, trained, path)
    cfg = load_config(PAIR, read_data=False)
    check_same_network(cfg.model.teacher, trained, path)


def test_students_weights_are_fetched_before_the_teacher_is_trained(
    monkeypatch,
):
    asked = []
    monkeypatch.setattr(timm_classifier, 'published_weights', asked.append)
    monkeypatch.setattr(backbones, 'published_weights', asked.append)
    for student in STUDENTS:
        cfg = load_config(PAIR, [f'student={student}'], read_data=False)
        fetch_network_weights(cfg.model)
    assert asked == ['mobilenetv2_050', 2, 'efficientnet_b0']
    fetch_network_weights(pair_config(student='mbv2').model)
    assert len(asked) == 3
    fetch_network_weights(pair_config(student='shufflenetv1').model)
    assert asked[3:] == []  # from scratch, as in every pair_config
    cfg = load_config(PAIR, ['student=shufflenetv1'], read_data=False)
    fetch_network_weights(cfg.model)
    assert asked[3:] == [1]
