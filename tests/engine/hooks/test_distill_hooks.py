# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Schedules of a loss, diagnostics of a distillation, and its guard rails."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from torch import nn

from hkd_mm.engine.hooks.distill_hooks import (
    DistillDiagnosticsHook,
    GuardRailsHook,
    LossScheduleHook,
    gradient_norms,
)
from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load
from hkd_mm.models.losses.label_losses import HybridKDLoss
from hkd_mm.models.recorders.network_recorders import LogitsRecorder
from hkd_mm.training.trainer import train


def distillation(loss, teacher=10, student=10):
    """What the hooks see of a runner, with networks of so many weights."""
    model = nn.Module()
    model.student = nn.Linear(student, 1, bias=False)
    object.__setattr__(model, 'teacher', nn.Linear(teacher, 1, bias=False))
    model.distiller = nn.Module()
    model.distiller.distill_losses = nn.ModuleDict(dict(loss_a=loss))
    logits = dict(logits=LogitsRecorder())
    model.distiller.student_recorders = SimpleNamespace(recorders=logits)
    info = {}
    return SimpleNamespace(
        model=model,
        epoch=0,
        logger=logging.getLogger('hooks'),
        message_hub=SimpleNamespace(runtime_info=info),
    )


def values(hook, loss, epochs, **runs):
    runner = distillation(loss)
    vars(runner).update(runs)
    hook.before_train(runner)
    found = []
    for runner.epoch in range(epochs):
        hook.before_train_epoch(runner)
        found.append(getattr(loss, hook.word))
    return found


def test_schedules_by_hand():
    line = LossScheduleHook('loss_a', 4, start=0.0)
    assert values(line, HybridKDLoss(loss_weight=2.0), 6) == [0, 0.5, 1, 1.5, 2, 2]
    # half a cosine: (1 - cos(pi / 4 * k)) / 2 = 0, 0.1464, 0.5, 0.8536, 1
    cosine = LossScheduleHook('loss_a', 5, 'cosine', start=0.0, end=1.0, begin=1)
    assert values(cosine, HybridKDLoss(), 7) == pytest.approx(
        [0, 0, 0.146447, 0.5, 0.853553, 1, 1], abs=1e-6
    )
    stop = LossScheduleHook('loss_a', 2, 'constant', end=0.0)
    assert values(stop, HybridKDLoss(), 4) == [1, 1, 0, 0]
    tau = LossScheduleHook('loss_a', 2, end=8.0, word='tau')
    assert values(tau, HybridKDLoss(tau=4.0), 3) == [4, 6, 8]


@pytest.mark.parametrize(
    'begin, until, epochs, expected',
    [
        (0, 10, 24, [0, 0.5, 1, 1]),
        (0, 10, 2, [1, 1]),  # less than half an epoch is none
        (1, 11, 240, [0, 0, 0, 0.05, 0.1]),
        (9, 10, 12, [0, 1]),
    ],
)
def test_a_schedule_keeps_its_share_of_the_epochs(begin, until, epochs, expected):
    hook = LossScheduleHook('loss_a', until, start=0.0, begin=begin, of=120)
    found = values(hook, HybridKDLoss(), len(expected), max_epochs=epochs)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    'made, said',
    [
        (dict(until=3, end=0.0, kind='step'), 'kind: '),
        (dict(until=0, end=0.0), 'until: '),
        (dict(until=3, begin=3, end=0.0), 'begin=3'),
        (dict(until=3), 'end=None must be a number, or start'),
        (dict(until=3, begin=-1, end=0.0), 'begin: '),
        (dict(until=3, begin='1', end=0.0), 'begin: '),
        (dict(until=3, end='0'), 'end'),
        (dict(until=3, end=float('nan')), 'end'),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(made, said):
    with pytest.raises(UserError, match=said):
        LossScheduleHook('loss_a', **made)


@pytest.mark.parametrize(
    'loss, word, end, said',
    [
        ('loss_b', 'tau', 1.0, "no loss is called 'loss_b'; known: loss_a"),
        ('loss_a', 'temperature', 1.0, 'no number of loss_a'),
        ('loss_a', 'smallest_batch', 1.0, 'no number of loss_a'),
        ('loss_a', 'tau', 0.0, 'tau: Input should be greater than 0'),
        ('loss_a', 'loss_weight', -1.0, 'loss_weight: Input should be greater'),
        ('loss_a', 'beta', 0.1, 'needs s_feature, t_feature, which is not'),
        ('loss_a', 'alpha', 0.5, 'needs gt_labels, which is not recorded'),
    ],
)
def test_a_schedule_of_nothing_is_refused(loss, word, end, said):
    hook = LossScheduleHook(loss, 3, end=end, word=word)
    with pytest.raises(UserError, match=said):
        hook.before_train(distillation(HybridKDLoss(alpha=1.0, beta=0.0)))


def test_a_number_that_is_read_when_built_is_refused():
    from hkd_mm.models.losses.hint_losses import VIDLoss

    hook = LossScheduleHook('loss_a', 3, end=1.0, word='variance')
    with pytest.raises(UserError, match="'variance' is no number"):
        hook.before_train(distillation(VIDLoss()))


def test_several_processes_keep_every_gradient(monkeypatch):
    from hkd_mm.engine.hooks import distill_hooks as loss_schedule_hook

    hook = LossScheduleHook('loss_a', 3, end=0.0, word='beta')
    hook.before_train(distillation(HybridKDLoss()))
    monkeypatch.setattr(loss_schedule_hook, 'get_world_size', lambda: 2)
    with pytest.raises(UserError, match='without a gradient'):
        hook.before_train(distillation(HybridKDLoss()))


def test_gradient_norms_by_hand():
    model = nn.Module()
    model.student = nn.Linear(2, 1, bias=False)
    inputs = torch.tensor([[3.0, 4.0]])
    out = model.student(inputs).sum()  # gradient (3, 4), norm 5
    found = gradient_norms(
        model,
        {
            'distill.loss_kd': out,
            'distill.loss_align': 2 * out,
            'student.loss': 3 * out,
            'accuracy': out,
        },
    )
    assert {name: value.item() for name, value in found.items()} == {
        'gradient.kd': 5,
        'gradient.align': 10,
        'gradient.student': 15,
    }
    assert model.student.weight.grad is None


def logged(folder):
    found = []
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    return found


def with_hooks(config, *hooks):
    text = config.read_text()
    extra = f'custom_hooks = custom_hooks + {list(hooks)!r}\n'
    path = config.with_name('with_hooks.py')
    path.write_text(text + extra)
    return path


def test_diagnostics_are_logged_and_change_nothing(
    tiny_configs, quick_runner, tmp_path
):
    looked = with_hooks(
        tiny_configs['kd'], dict(type='hkd_mm.DistillDiagnosticsHook', interval=2)
    )
    weights = []
    for name, config in (('plain', tiny_configs['kd']), ('looked', looked)):
        train(
            str(config),
            str(tmp_path / name),
            cfg_options=dict(max_epochs=1, teacher_config='tiny_teacher.py'),
        )
        weights.append(safe_load(str(tmp_path / name / 'epoch_1.pth')))
    for key, value in weights[0]['state_dict'].items():
        assert torch.equal(value, weights[1]['state_dict'][key]), key
    lines = [line for line in logged(tmp_path / 'looked') if 'loss' in line]
    assert 'agreement' not in lines[0] and 'agreement' in lines[1]
    line = lines[1]
    assert 0 <= line['agreement'] <= 1
    for part in ('kd', 'ce', 'align'):
        assert line[f'gradient.{part}'] > 0
    assert not any('gradient.kd' in line for line in logged(tmp_path / 'plain'))


def test_a_scheduled_loss_trains(tiny_configs, quick_runner, tmp_path):
    config = with_hooks(
        tiny_configs['kd'],
        dict(
            type='hkd_mm.LossScheduleHook',
            loss='loss_hybrid',
            kind='constant',
            until=1,
            end=0.0,
        ),
    )
    train(
        str(config),
        str(tmp_path / 'run'),
        cfg_options=dict(teacher_config='tiny_teacher.py'),
    )
    losses = [
        (line['epoch'], line['loss'])
        for line in logged(tmp_path / 'run')
        if 'loss' in line
    ]
    last = [loss for epoch, loss in losses if epoch == 2][-1]
    assert losses[0][1] > 0
    assert last < losses[0][1]


def warnings_of(caplog, runner, *scores, teacher=None):
    hook = GuardRailsHook()
    caplog.clear()
    with caplog.at_level(logging.WARNING, 'hooks'):
        hook.before_train(runner)
        if teacher is not None:
            runner.message_hub.runtime_info['teacher_check'] = dict(
                balanced_accuracy=teacher, images=256
            )
        for score in scores:
            hook.after_val_epoch(runner, dict(balanced_accuracy=score))
    return [record.getMessage() for record in caplog.records]


def test_what_is_usual_draws_no_warning(caplog):
    for loss in (HybridKDLoss(), HybridKDLoss(alpha=1.0, beta=0.0)):
        runner = distillation(loss, 1000, 10)
        assert warnings_of(caplog, runner, 0.5, teacher=0.5) == []


def test_a_gap_of_capacity(caplog):
    (said,) = warnings_of(caplog, distillation(HybridKDLoss(), 2010, 10))
    assert '201 times' in said and 'capacity gap' in said


def test_values_far_from_the_usual(caplog):
    loss = HybridKDLoss(tau=0.5, alpha=0.05)
    said = warnings_of(caplog, distillation(loss))
    assert len(said) == 2
    assert 'loss_a.tau=0.5' in said[0] and '1 to 20' in said[0]
    assert 'loss_a.alpha=0.05' in said[1]


def test_a_student_above_its_teacher_is_said_once(caplog):
    runner = distillation(HybridKDLoss())
    (said,) = warnings_of(caplog, runner, 0.53, 0.56, 0.9, teacher=0.5)
    assert '0.560' in said and '0.500 on 256 images' in said


def test_shipped_configs_have_the_guard_rails():
    root = Path(__file__).resolve().parents[3]
    cfg = Config.fromfile(root / 'configs/hybrid_wrn50_mbv2.py')
    assert cfg.default_hooks.guard_rails.type == 'hkd_mm.GuardRailsHook'


def test_a_part_that_does_not_count_or_rules_is_told(monkeypatch):
    monkeypatch.setattr('hkd_mm.engine.hooks.distill_hooks.agreement', lambda _: {})
    model = nn.Module()
    model.student, model.distiller = nn.Linear(2, 1, bias=False), None
    model.parse_losses = lambda losses: (sum(losses.values()), {})
    warned = []
    runner = SimpleNamespace(
        model=model, epoch=0, logger=SimpleNamespace(warning=warned.append)
    )
    hook = DistillDiagnosticsHook()
    hook.before_train(runner)
    hook._on = True
    out = model.student(torch.ones(1, 2)).sum()
    model.parse_losses(
        dict(loss_ce=out, loss_mgd=out * 1e-3, loss_kd=out * 2, loss_at=out * 26)
    )
    hook.after_train_epoch(runner)
    assert ['mgd is 0.001 ' in warned[0], 'at is 26 ' in warned[1]] == [True, True]
    assert len(warned) == 2 and 'loss_balance=True' in warned[0]
