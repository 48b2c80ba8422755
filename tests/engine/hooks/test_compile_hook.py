# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Compiled networks train, are recorded and are saved like others."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

from hkd_mm.engine.hooks.training_hooks import CompileHook
from hkd_mm.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


def build():
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(ROOT / 'configs/demo/hybrid_resnet18_mbv2_demo.py').model
    cfg.data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
    cfg.teacher_ckpt = cfg.teacher_cache = None
    cfg.input_size = 64
    torch.manual_seed(0)
    return MODELS.build(cfg)


def compile_networks(model, backend, **kwargs):
    hook = CompileHook(**kwargs)
    hook.backend = backend
    hook.before_run(
        SimpleNamespace(model=model, logger=MMLogger.get_current_instance())
    )
    return backend


def compiled(backend='eager', **kwargs):
    """A distillation with compiled networks."""
    model = build()
    compile_networks(model, backend, **kwargs)
    return model


class Counting:
    """A backend that counts the compiled graphs which are run."""

    def __init__(self):
        self.runs = 0

    def __call__(self, graph, _):
        def run(*args):
            self.runs += 1
            return graph(*args)

        return run


def step(model):
    model.train()
    torch.manual_seed(1)
    images = torch.randn(4, 3, 64, 64)
    samples = [DataSample().set_gt_label(i % 5) for i in range(4)]
    losses = model.loss(images, samples)
    sum(losses.values()).backward()
    return {name: value.item() for name, value in losses.items()}


def test_what_is_recorded_lies_outside_the_compiled_modules():
    model = compiled()
    teacher = model.teacher.model
    assert 'forward' not in vars(teacher)  # layer4 is recorded within
    assert 'forward' in vars(teacher.layer3)
    assert 'forward' in vars(teacher.layer4)
    assert 'forward' in vars(model.student.model.conv_stem)


def test_one_network_alone_can_be_compiled():
    model = compiled(teacher=False)
    assert 'forward' not in vars(model.teacher.model.layer3)
    assert 'forward' in vars(model.student.model.conv_stem)


@pytest.fixture(autouse=True)
def _limits():
    """Compiling raises torch's limits, for this test only."""
    names = ('recompile_limit', 'accumulated_recompile_limit')
    config = torch._dynamo.config
    with config.patch({name: getattr(config, name) for name in names}):
        yield


def test_without_a_compiler_a_cpu_says_so(monkeypatch):
    monkeypatch.setenv('CXX', '/nonexistent')
    with pytest.raises(UserError, match='compiler.*/nonexistent'):
        compiled(backend='inductor')


RESNET8 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='hkd_mm.CIFARResNet', depth=8, out_indices=(0, 1, 2)),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=64),
)
CE = dict(type='hkd_mm.HardLabelLoss')
KL = dict(type='hkd_mm.KLLoss')
HINT = dict(type='hkd_mm.FitNetLoss')
INNER = {  # an in-place ReLU follows what is recorded
    f'{side}_recorders': dict(
        feature=dict(type='mmrazor.ModuleOutputs', source='backbone.layer2.0.bn1')
    )
    for side in ('student', 'teacher')
}
METHODS = dict(
    frozen=(
        dict(
            type='hkd_mm.FrozenTeacherDistill',
            architecture=RESNET8,
            teacher=RESNET8,
            teacher_ckpt=None,
        ),
        dict(loss_ce=CE, loss_kl=KL, loss_hint=HINT),
        INNER,
    ),
    peers=(
        dict(type='hkd_mm.MutualDistill', architecture=RESNET8, peers=dict(a=RESNET8)),
        dict(loss_ce=CE, loss_kl=KL, loss_hint=HINT),
        INNER,
    ),
    branch=(
        dict(
            type='hkd_mm.MutualDistill',
            architecture=RESNET8,
            peers=dict(a=RESNET8),
            branch=dict(type='hkd_mm.EmbeddedBranch'),
        ),
        dict(loss_ce=CE, loss_kl=KL, loss_hint=HINT),
        {},
    ),
    alone=(
        dict(type='hkd_mm.SelfDistill', architecture=RESNET8),
        dict(loss_ce=CE, loss_byot=dict(type='hkd_mm.BYOTLoss')),
        dict(
            student_recorders=dict(
                maps=dict(type='hkd_mm.StageMaps', stages=(-3, -2, -1))
            )
        ),
    ),
    several=(
        dict(
            type='hkd_mm.MultiTeacherDistill',
            architecture=RESNET8,
            teachers=[RESNET8, RESNET8],
        ),
        dict(loss_ce=CE, loss_kl=KL),
        {},
    ),
)


def build_method(name):
    init_default_scope('mmpretrain')
    model, losses, recorders = copy.deepcopy(METHODS[name])
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            model,
            input_size=64,
            data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
            distiller=dict(
                type='mmrazor.ConfigurableDistiller', distill_losses=losses, **recorders
            ),
        )
    )


def networks_of(model):
    """Those that are compiled."""
    if hasattr(model, 'peers'):
        return list(model.networks().values())
    teacher = getattr(model, 'teacher', None)
    taught = [] if teacher is None else getattr(teacher, 'networks', [teacher])
    return [model.student, *taught]


@pytest.mark.parametrize(
    'name, backend',
    [
        *((name, 'eager') for name in METHODS if name != 'frozen'),
        pytest.param('peers', 'aot_eager', marks=pytest.mark.slow),
    ],
)
def test_other_methods_are_compiled_as_a_distillation_is(name, backend):
    torch._dynamo.reset()
    plain, model = build_method(name), build_method(name)
    compile_networks(model, backend)
    for network in networks_of(model):
        assert any('forward' in vars(module) for module in network.modules())
    for _ in range(2):  # the second step is like the first
        mine, other = step(model), step(plain)
        assert mine == pytest.approx(other, rel=1e-4)
        for one, two in zip(model.parameters(), plain.parameters(), strict=True):
            scale = two.grad.abs().max().item() if two.grad is not None else 0
            torch.testing.assert_close(
                one.grad, two.grad, rtol=1e-3, atol=1e-4 * scale + 1e-7
            )
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_every_region_runs_compiled_and_changes_nothing():
    torch._dynamo.reset()
    plain, model = build_method('frozen'), build_method('frozen')
    backend = compile_networks(model, Counting())
    regions, student = (
        sum('forward' in vars(module) for one in networks for module in one.modules())
        for networks in (networks_of(model), [model.student])
    )
    assert step(model) == step(plain)
    assert backend.runs == regions > 8  # torch's own limit
    assert model.state_dict().keys() == plain.state_dict().keys()
    for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
    model.eval()
    with torch.no_grad():
        model.student(torch.randn(3, 3, 64, 64), mode='tensor')
    assert backend.runs == regions + student
