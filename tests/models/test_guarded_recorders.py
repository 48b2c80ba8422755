# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A record is what the module gave, whatever the network does to it later."""

import copy
from collections import namedtuple

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from torch import nn

import hkd_mm  # noqa: F401
from hkd_mm.errors import UserError
from hkd_mm.models.recorders.guarded_recorders import GuardedRecorders

Pair = namedtuple('Pair', 'one other')
PLACES = (
    'model.layer1.0.conv1',
    'model.layer1.0.bn1',  # an in-place ReLU follows
    'model.layer1.0.bn2',  # += shortcut, then an in-place ReLU
    'model.layer1.0',  # read twice by the next block
)


def doubled(x):
    return x * 2


class Toy(nn.Module):
    """Overwrites what ``first`` gave, by itself and by a module."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.5, inplace=True)
        self.overwrite_last = False

    def forward(self, x):
        x = self.first(x)
        x += 1
        x = doubled(self.act(x))
        x.mul_(3)
        x = self.drop(self.second(x))
        if self.overwrite_last:
            x.zero_()
        return x


def given(network, *names):
    """Name -> list that is filled with copies of what the modules give."""
    found = {name: [] for name in names}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda _, __, x, name=name: found[name].append(x.detach().clone())
        )
    return found


def toy(kind='ModuleOutputs', **sources):
    torch.manual_seed(0)
    network = Toy()
    recorders = GuardedRecorders(
        {
            name: dict(type=f'mmrazor.{kind}', source=source)
            for name, source in sources.items()
        },
        'student',
    )
    recorders.initialize(network)
    return network, recorders


def record(recorders, name='x'):
    return recorders.get_recorder(name).get_record_data()


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    'mode', [torch.enable_grad, torch.no_grad, torch.inference_mode]
)
def test_records_are_what_the_modules_gave(mode, training):
    network, recorders = toy(x='first', y='second', z='drop')
    network.train(training)
    said = given(network, 'first', 'second', 'drop')
    for _ in range(3):
        with mode(), recorders:
            network(torch.randn(5, 4))
        for name, place in zip('xyz', said):
            assert torch.equal(record(recorders, name), said[place][-1])
        assert (record(recorders) < 0).any()  # no ReLU, no + 1


def test_the_gradient_is_that_of_a_network_without_in_place_operations():
    def gradients(network, recorders):
        x = torch.arange(20.0).view(5, 4) / 7 - 1
        with recorders:
            out = network(x)
        total = out.square().sum() + record(recorders).pow(3).sum()
        return torch.autograd.grad(total, list(network.parameters()))

    network, recorders = toy(x='first')
    network.eval()
    twin = copy.deepcopy(network)
    found = [gradients(network, recorders) for _ in range(2)]
    before = []

    def plain(x):
        before.append(twin.first(x))
        return twin.second(doubled((before[0] + 1).relu()) * 3)

    x = torch.arange(20.0).view(5, 4) / 7 - 1
    total = plain(x).square().sum() + before[0].pow(3).sum()
    expected = torch.autograd.grad(total, list(twin.parameters()))
    for gradient in found:
        for mine, other in zip(gradient, expected, strict=True):
            torch.testing.assert_close(mine, other)


def test_what_one_forward_alone_changes_is_recorded_before():
    network, recorders = toy(x='second')
    network.eval()
    for network.overwrite_last in (False, True):
        with recorders:
            network(torch.randn(5, 4))
        assert record(recorders).all()


def test_a_loss_that_changes_a_record_is_told():
    network, recorders = toy(x='first', y='second')
    with torch.no_grad(), recorders:
        network(torch.randn(5, 4))
    record(recorders).detach().add_(1)
    with pytest.raises(UserError, match='x of the student.*a loss'):
        record(recorders)
    record(recorders, 'y')
    with torch.no_grad(), recorders:
        network(torch.randn(5, 4))
    record(recorders)


def test_inputs_and_functions_are_recorded_before_the_change():
    network, recorders = toy('ModuleInputs', x='act')
    said = given(network, 'first')
    with recorders:
        network(torch.randn(5, 4))
    assert torch.equal(record(recorders)[0], said['first'][0] + 1)
    assert (record(recorders)[0] < 0).any()
    network, recorders = toy('FunctionOutputs', x=f'{__name__}.doubled')
    said = given(network, 'act')
    for _ in range(2):
        with recorders:
            network(torch.randn(5, 4))
        assert torch.equal(record(recorders), 2 * said['act'][-1])


def test_records_of_several_tensors_and_a_copy_of_all():
    network = Toy()
    network.first.register_forward_hook(
        lambda _, __, x: {'a': (x, [x, 'b']), 'p': Pair(x, 1)}
    )
    network.forward = lambda x: network.first(x)['a'][0].zero_()
    recorders = GuardedRecorders(
        dict(x=dict(type='mmrazor.ModuleOutputs', source='first'))
    )
    recorders.initialize(network)
    with torch.no_grad(), recorders:
        network(torch.randn(5, 4))
    found = record(recorders)
    assert found['a'][0].any() and found['a'][1][1] == 'b'
    assert found['p'].one.any() and found['p'].other == 1

    network, recorders = toy(x='first')
    together = nn.ModuleList([network])
    together.recorders = recorders
    twin = copy.deepcopy(together)
    with twin.recorders:
        twin[0](torch.randn(5, 4))
    assert record(twin.recorders).shape == (5, 4)
    assert not recorders.get_recorder('x').data_buffer


def test_parameters_may_change():
    network, recorders = toy('Parameter', x='first.weight')
    for _ in range(2):
        with recorders:
            network(torch.randn(5, 4)).sum().backward()
        torch.optim.SGD(network.parameters(), 0.1).step()
        assert record(recorders) is network.first.weight


RESNET18 = dict(type='hkd_mm.TimmClassifier', model_name='resnet18', num_classes=5)
FROZEN = dict(type='hkd_mm.FrozenTeacherDistill', teacher=RESNET18)
ALGORITHMS = dict(
    frozen=FROZEN,
    frozen_inplace=dict(FROZEN, teacher_module_inplace=True),
    rotated=dict(FROZEN, type='hkd_mm.RotationDistill'),
    several=dict(type='hkd_mm.MultiTeacherDistill', teachers=[RESNET18, RESNET18]),
    alone=dict(type='hkd_mm.SelfDistill'),
    peers=dict(type='hkd_mm.MutualDistill', peers=dict(other=RESNET18)),
)


def build(name, places=PLACES):
    """An algorithm that records the inner maps of both sides."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    losses, mappings = {}, {}
    sides = dict(student={}, teacher={})
    for i, place in enumerate(places):
        for side in sides:
            prefix = 'networks.1.' * (name == 'several' and side == 'teacher')
            sides[side][f'r{i}'] = dict(
                type='mmrazor.ModuleOutputs', source=prefix + place
            )
        for j in range(2):  # two losses read each record
            losses[f'loss_{i}_{j}'] = dict(type='hkd_mm.FitNetLoss')
            mappings[f'loss_{i}_{j}'] = dict(
                s_feature=dict(recorder=f'r{i}', from_student=True),
                t_feature=dict(recorder=f'r{i}', from_student=name == 'alone'),
            )
    model = MODELS.build(
        copy.deepcopy(
            dict(
                ALGORITHMS[name],
                input_size=32,
                data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
                architecture=RESNET18,
                distiller=dict(
                    type='mmrazor.ConfigurableDistiller',
                    student_recorders=sides['student'],
                    teacher_recorders=sides['teacher'],
                    distill_losses=losses,
                    loss_forward_mappings=mappings,
                ),
            )
        )
    )
    networks = [model, *vars(model).get('teacher', nn.Module()).modules()]
    for module in (m for network in networks for m in network.modules()):
        if isinstance(module, nn.BatchNorm2d):  # timm's bn2 begins at 0
            nn.init.normal_(module.weight, 1.0, 0.2)
            nn.init.normal_(module.bias, 0.0, 0.2)
    return model


def batch():
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator())
    return images, [DataSample().set_gt_label(i) for i in range(4)]


@pytest.mark.parametrize('name', ALGORITHMS)
def test_inner_maps_of_a_resnet_in_every_algorithm(name):
    model = build(name).train()
    sides = dict(student=given(model.student, *PLACES))
    if hasattr(model, 'teacher'):
        network = model.teacher.networks[1] if name == 'several' else model.teacher
        sides['teacher'] = given(network, *PLACES)
    elif name == 'peers':
        sides['teacher'] = given(model.peers['other'], *PLACES)
    for mode in (torch.enable_grad, torch.enable_grad, torch.inference_mode):
        with mode():
            losses = model(*batch(), mode='loss')
            assert len(losses) == (16 if name == 'peers' else 8)
            for side, said in sides.items():
                for i, place in enumerate(PLACES):
                    found = model.distiller.get_record(f'r{i}', side == 'student')
                    assert torch.equal(found, said[place][-1]), (side, place)
                assert (said[PLACES[1]][-1] < 0).any()
                assert (said[PLACES[2]][-1] < 0).any()


@pytest.mark.parametrize('name', ['frozen', 'peers'])
def test_the_first_step_is_that_of_any_later_one(name):
    """Else a resumed run would differ from one that was never stopped."""
    model = build(name).train()
    state = copy.deepcopy(model.state_dict())
    found = []
    for _ in range(3):
        model.load_state_dict(state)
        model.zero_grad()
        total, _ = model.parse_losses(model(*batch(), mode='loss'))
        total.backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(found[0]) > 6
    for later in found[1:]:
        assert all(map(torch.equal, found[0], later))


def test_peers_keep_their_in_place_operations():
    model = build('peers')
    assert model.student.model.act1.inplace
    assert model.peers['other'].model.act1.inplace
