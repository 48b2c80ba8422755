# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Several trainings in one process come out as each would alone."""

import json
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from hkd_mm.apis import together as module
from hkd_mm.apis.together import train_together
from hkd_mm.apis.train import train
from hkd_mm.engine.together import turns
from hkd_mm.errors import UserError
from hkd_mm.models.algorithms.teacher_round import TeacherRound

_LOSS = 'model.distiller.distill_losses.loss_hybrid'


@pytest.fixture
def taught(tiny_configs, quick_runner):
    """Trainings by name, of one teacher that is there."""
    packed = dict(packed=True, **{'packed.store_dir': 'images', 'seed': 1})
    train(str(tiny_configs['teacher']), 'teacher', cfg_options=packed)
    _dropout(tiny_configs['kd'])
    _dropout(tiny_configs['student'])
    teacher = str(next(Path('teacher').glob('best_*.pth')))
    with_teacher = {**packed, 'model.teacher_ckpt': teacher}

    def of(config, **options):
        return dict(config=str(tiny_configs[config]), cfg_options=options)

    return dict(
        hybrid=of('kd', **with_teacher),
        soft=of('kd', **with_teacher, **{f'{_LOSS}.beta': 0}),
        alone=of('student', **packed, max_epochs=3),
    )


def _dropout(path):
    """Have the student draw from the generator of the process."""
    old = "custom_hooks = [dict(type='hkd_mm.EpochSeedHook')"
    text = path.read_text()
    assert old in text
    more = "dict(type='hkd_mm.ViewHook'), dict(type='DropHook')"
    path.write_text(text.replace(old, f'{old}, {more}'))


@pytest.fixture(autouse=True)
def drop_hook():
    """A hook that draws, as Dropout and DropPath of a student would."""

    class DropHook(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            net = getattr(runner.model, 'student', runner.model)
            weight = net.head.fc.weight
            weight.data *= (torch.rand_like(weight) > 0.1).float()

    HOOKS.register_module(module=DropHook)
    yield
    del HOOKS._module_dict['DropHook']


def put(trainings, folder):
    """The trainings, each with a work dir below a folder."""
    return {
        name: dict(arguments, work_dir=f'{folder}/{name}')
        for name, arguments in trainings.items()
    }


def last(folder) -> dict:
    """Weights and momenta at the end."""
    path = Path((Path(folder) / 'last_checkpoint').read_text().strip())
    found = torch.load(path, weights_only=False)
    momenta = found['optimizer']['state'].items()
    return found['state_dict'] | {
        f'momentum of {number}': state['momentum_buffer']
        for number, state in momenta
    }


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_each_comes_out_as_it_would_alone(taught, monkeypatch):
    for arguments in put(taught, 'single').values():
        train(**arguments)
    forwards = []
    usual = TeacherRound.run

    def counted(self, images, samples):
        forwards.append(images is not self._images)
        usual(self, images, samples)

    monkeypatch.setattr(TeacherRound, 'run', counted)
    assert train_together(put(taught, 'group')) == {}
    for name in taught:
        assert_equal(last(f'single/{name}'), last(f'group/{name}'))
    # two epochs of three batches: two ask, one teacher pass answers
    assert forwards == [True, False] * 6


def test_one_that_fails_leaves_the_others_to_go_on(taught, capfd):
    for arguments in put(taught, 'single').values():
        train(**arguments)
    taught = {
        'broken': dict(
            taught['alone'],
            cfg_options={
                **taught['alone']['cfg_options'],
                'optim_wrapper.optimizer.lr': 1e30,
            },
        ),
        'absent': dict(taught['soft'], config='nowhere.py'),
        **taught,
    }
    failed = train_together(put(taught, 'group'))
    assert set(failed) == {'broken', 'absent'}
    assert 'finite' in failed['broken']
    assert 'nowhere.py' in failed['absent']
    for name in ('hybrid', 'soft', 'alone'):
        assert (Path('group') / name / 'finished.json').is_file()
        assert_equal(last(f'single/{name}'), last(f'group/{name}'))
    assert 'error: absent: ' in capfd.readouterr().err


def test_one_that_was_broken_off_catches_up(taught):
    for arguments in put(taught, 'single').values():
        train(**arguments)
    first = dict(taught['hybrid'])
    first['cfg_options'] = dict(first['cfg_options'], max_epochs=2)
    ahead = put(dict(soft=taught['soft']), 'group')['soft']
    _stopped_after_an_epoch(ahead)
    ahead['resume'] = 'auto'
    group = dict(put(taught, 'group'), soft=ahead)
    assert train_together(group) == {}
    for name in taught:
        assert_equal(last(f'single/{name}'), last(f'group/{name}'))


def _stopped_after_an_epoch(arguments):
    class Stopped(Exception):
        pass

    class Stop(Hook):
        def before_train_epoch(self, runner):
            if runner.epoch == 1:
                raise Stopped

    with pytest.raises(Stopped):
        train(**arguments, on_runner=lambda r: r.register_hook(Stop()))


def test_told_to_end_all_end_and_go_on_later(taught):
    for arguments in put(taught, 'single').values():
        train(**arguments)

    class Interrupt(Hook):
        def before_train_epoch(self, runner):
            if runner.epoch == 1:
                raise KeyboardInterrupt

    usual = module.Group.join

    def join(self, name, runner):
        usual(self, name, runner)
        if name == 'soft':
            runner.register_hook(Interrupt())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Group, 'join', join)
        with pytest.raises(KeyboardInterrupt):
            train_together(put(taught, 'group'))
    assert not list(Path('group').glob('*/finished.json'))
    again = put(taught, 'group')
    for arguments in again.values():
        arguments['resume'] = 'auto'
    assert train_together(again) == {}
    for name in taught:
        assert_equal(last(f'single/{name}'), last(f'group/{name}'))


def test_without_greenlet_it_is_said(monkeypatch):
    monkeypatch.setattr(turns, 'greenlet', None)
    with pytest.raises(UserError, match='pip install greenlet'):
        train_together(dict(one=dict(config='x.py')))


def test_a_file_that_asks_for_nothing_is_told(tmp_path, tool, capsys):
    (tmp_path / 'asked.json').write_text('{}')
    assert tool('train_together')([str(tmp_path / 'asked.json')]) == 2
    assert 'asked.json names no trainings' in capsys.readouterr().err


def test_the_tool_trains_and_tells_what_failed(taught, tmp_path, tool):
    asked = dict(put(taught, 'group'), absent=dict(config='nowhere.py'))
    reasons = tmp_path / 'reasons.json'
    path = tmp_path / 'asked.json'
    path.write_text(json.dumps(dict(trainings=asked, reasons=str(reasons))))
    assert tool('train_together')([str(path)]) == 0
    assert list(json.loads(reasons.read_text())) == ['absent']
    assert (Path('group') / 'hybrid' / 'finished.json').is_file()


def test_each_is_told_its_own_time(taught, tiny_configs, monkeypatch):
    report = "dict(type='hkd_mm.RunReportHook'), dict(type='DropHook')"
    for path in tiny_configs.values():
        text = path.read_text().replace("dict(type='DropHook')", report)
        path.write_text(text)
    usual = module.Group.join

    class Slow(Hook):
        def after_train_iter(self, runner, batch_idx, **kwargs):
            time.sleep(0.3)

    def join(self, name, runner):
        usual(self, name, runner)
        if name == 'soft':
            runner.register_hook(Slow())

    monkeypatch.setattr(module.Group, 'join', join)
    assert train_together(put(taught, 'group')) == {}
    minutes = {
        name: json.loads(Path(f'group/{name}/metrics.json').read_text())[
            'training_minutes'
        ]
        for name in ('hybrid', 'soft')
    }
    assert minutes['soft'] * 60 > 6 * 0.3  # two epochs of three batches
    assert minutes['hybrid'] < minutes['soft'] / 2


def test_all_unwind_even_if_one_fails_to(capsys):
    told = []
    line = turns.Turns()

    def work(name):
        try:
            line.pass_on(name, (0, 0))
            if name == 'a':
                line.pass_on(name, (0, 1))
                raise KeyboardInterrupt
            line.pass_on(name, (0, 2))
        finally:
            told.append(name)
            if name == 'b':
                raise RuntimeError('no disk')

    with pytest.raises(KeyboardInterrupt):
        line.run({name: partial(work, name) for name in 'abc'})
    assert told == ['a', 'b', 'c']
    assert 'no disk' in capsys.readouterr().err
