# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Every part of a loss gets its stated force, and nothing else changes."""

import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import nn

from hkd_mm.apis import train
from hkd_mm.config.compose import compose_config
from hkd_mm.engine.hooks.loss_balance_hook import LossBalanceHook
from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load


class Parts(nn.Module):
    """A student of one weight vector whose parts have known gradients."""

    loss_factors = {}

    def __init__(self, **parts: float) -> None:
        super().__init__()
        self.student = nn.Module()
        self.student.model = nn.Linear(2, 1, bias=False)
        self.student.model.get_classifier = lambda: None
        self.connector = nn.Linear(2, 1, bias=False)
        self.parts = parts

    def data_preprocessor(self, data, training):
        return data

    def _run_forward(self, data, mode):
        out = self.student.model(data).sum()
        losses = {f'distill.loss_{k}': v * out for k, v in self.parts.items()}
        # not shared: it must not count
        losses['distill.loss_ce'] = losses['distill.loss_ce'] + self.connector(data)
        return losses


def runner_of(model, **infos):
    loader = [torch.tensor([[3.0, 4.0]]), torch.tensor([[6.0, 8.0]])]
    batches = type('Loader', (list,), dict(sampler=None))(loader)
    hub = SimpleNamespace(runtime_info=infos)
    hub.update_info = infos.__setitem__
    warned = []
    return SimpleNamespace(
        model=model,
        epoch=0,
        hooks=[],
        train_dataloader=batches,
        message_hub=hub,
        cfg=Config(dict(optim_wrapper=None)),
        build_optim_wrapper=lambda _: OptimWrapper(
            torch.optim.SGD(model.parameters(), lr=0.1)
        ),
        logger=SimpleNamespace(info=lambda line: None, warning=warned.append),
        warned=warned,
    )


def factors_of(ratio=1.0, **parts):
    model = Parts(**parts)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    runner = runner_of(model)
    LossBalanceHook(ratio, steps=12).before_train(runner)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(p.grad is None for p in model.parameters())
    assert runner.message_hub.runtime_info['loss_factors'] == model.loss_factors
    return model.loss_factors, runner.warned


def test_factors_are_the_inverse_of_the_forces():
    found, warned = factors_of(ce=2.0, kd=8.0, align=0.5)
    assert found == pytest.approx(dict(kd=0.25, align=4.0))
    assert not warned


def test_a_ratio_for_each_part():
    found, _ = factors_of(dict(kd=3.0, skip=None), ce=2.0, kd=8.0, align=0.5, skip=9.0)
    assert found == pytest.approx(dict(kd=0.75, align=4.0))


def test_an_extreme_factor_is_told():
    found, (warned,) = factors_of(ce=1.0, mgd=1e-4)
    assert found == pytest.approx(dict(mgd=1e4))
    assert 'mgd' in warned


def test_a_part_without_gradient_is_refused():
    with pytest.raises(UserError, match=r'kd on the student is 0.*loss_balance\.kd=No'):
        factors_of(ce=1.0, kd=0.0)


def test_without_a_cross_entropy_there_is_nothing_to_compare_with():
    model = Parts(ce=1.0, kd=1.0)
    model._run_forward = lambda data, mode: dict(
        loss_kd=model.student.model(data).sum()
    )
    with pytest.raises(UserError, match='HardLabelLoss'):
        LossBalanceHook(steps=4).before_train(runner_of(model))


def test_a_resumed_run_keeps_its_factors_and_needs_some():
    model = Parts(ce=1.0, kd=2.0)
    runner = runner_of(model, loss_factors=dict(kd=7.0))
    runner.epoch = 3
    LossBalanceHook(steps=4).before_train(runner)
    assert model.loss_factors == dict(kd=7.0)
    runner = runner_of(model)
    runner.epoch = 3
    with pytest.raises(UserError, match='was not balanced'):
        LossBalanceHook(steps=4).before_train(runner)


def test_a_classifier_alone_is_refused(tiny_configs):
    with pytest.raises(UserError, match='loss_balance=True would change nothing'):
        compose_config(str(tiny_configs['student']), dict(loss_balance=True))


@pytest.fixture
def balanced(tiny_configs, quick_runner, tmp_path):
    """``balanced(name, **options)`` trains an epoch: its folder and checkpoint."""
    hooks = [
        dict(type=f'hkd_mm.{name}Hook')
        for name in ('View', 'TeacherCache', 'RunReport')
    ]
    with tiny_configs['kd'].open('a') as file:
        file.write(f'custom_hooks = custom_hooks + {hooks}\n')

    def run(name, config=tiny_configs['kd'], **options):
        folder = tmp_path / name
        train(str(config), str(folder), cfg_options=options)
        return folder, safe_load(str(folder / 'epoch_1.pth'))

    return run


def test_only_the_factors_are_left_of_the_warm_up(balanced):
    """The same with a cache as without, and again from the config that was kept."""
    common = dict(
        max_epochs=1,
        teacher_config='tiny_teacher.py',
        packed=True,
        loss_balance=dict(kd=0.5, align=2.0),
    )
    folder, online = balanced('online', teacher_cache=False, **common)
    _, cached = balanced('cached', teacher_cache=True, **common)
    factors = online['message_hub']['runtime_info']['loss_factors']
    assert set(factors) == {'kd', 'align'}
    kept = cached['message_hub']['runtime_info']['loss_factors']
    assert kept == pytest.approx(factors, rel=1e-3)
    config = folder / 'tiny_kd.py'
    assert Config.fromfile(config).default_hooks.loss_balance.factors == factors
    _, again = balanced('again', config)
    for key, value in online['state_dict'].items():
        assert torch.equal(value, again['state_dict'][key]), key
    report = json.loads((folder / 'metrics.json').read_text())
    assert report['loss_factors'] == factors
