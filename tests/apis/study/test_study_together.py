# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Runs of a study that one process trains side by side."""

import json
from pathlib import Path

import pytest

from hkd_mm.apis import children
from hkd_mm.apis.study.folders import is_done
from hkd_mm.apis.study.plan import Row, Study, all_runs
from hkd_mm.apis.study.processes import Processes
from hkd_mm.apis.study.units import stream_of_run, units_of

TOOL = """
import json, pathlib, sys
asked = json.loads(pathlib.Path(sys.argv[1]).read_text())
failed = {}
for name, given in asked['trainings'].items():
    folder = pathlib.Path(given['work_dir'])
    (folder / 'asked.json').write_text(json.dumps(given))
    if 'broken=True' in given['cfg_options']:
        failed[name] = 'it is broken'
        continue
    if 'killed=True' in given['cfg_options']:
        sys.exit('out of memory')
    report = dict(training_minutes=1.0, best=dict(balanced_accuracy=0.5))
    (folder / 'student.pth').touch()
    (folder / 'metrics.json').write_text(json.dumps(report))
pathlib.Path(asked['reasons']).write_text(json.dumps(failed))
"""
TRAIN = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
report = dict(training_minutes=1.0, best=dict(balanced_accuracy=0.5))
(folder / 'student.pth').touch()
(folder / 'metrics.json').write_text(json.dumps(report))
"""
TEST = """
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1]).parent
(folder / 'test.json').write_text('{}')
(folder / 'predictions.csv').write_text('')
"""


def row(name, after=(), **options):
    return Row(name, name, Path(f'{name}.py'), options, after)


def runs_of(*rows, seeds=1):
    study = Study(Path('s.py'), 's', rows, (), 'balanced_accuracy')
    return all_runs(study, range(seeds))


def names(units):
    return [[run.name for run in unit] for unit in units]


def test_runs_of_one_stream_go_together():
    runs = runs_of(
        row('teacher'), row('alone'), row('a', ('teacher',)), row('odd'),
        row('b', ('teacher',)), row('c', ('a',)), seeds=2,
    )  # fmt: skip
    streams = {'odd': None, 'c': 'other'}
    units = units_of(runs, 8, lambda run: streams.get(run.row.name, 'same'))
    assert names(units) == [
        ['teacher seed 0', 'alone seed 0'],
        ['teacher seed 1', 'alone seed 1'],
        ['odd seed 0'],
        ['odd seed 1'],
        ['a seed 0', 'b seed 0'],
        ['a seed 1', 'b seed 1'],
        ['c seed 0'],
        ['c seed 1'],
    ]


def test_no_more_go_together_than_asked_for():
    runs = runs_of(*map(row, 'abcde'))
    units = units_of(runs, 2, lambda run: 'same')
    assert [len(unit) for unit in units] == [2, 2, 1]
    assert names(units_of(runs, 1, None)) == [[run.name] for run in runs]


@pytest.fixture
def processes(tmp_path, monkeypatch):
    folder = tmp_path / 'tools'
    folder.mkdir()
    for name, text in (
        ('train_together', TOOL),
        ('train', TRAIN),
        ('test', TEST),
    ):
        (folder / f'{name}.py').write_text(text)
    monkeypatch.setattr(children, 'TOOLS', folder)
    module = 'hkd_mm.apis.study.processes.stream_of_run'
    monkeypatch.setattr(module, lambda run, *_: str(run.row.options.get('of')))

    def make(*rows):
        runs = runs_of(*rows)
        return Processes(
            runs, tmp_path / 'w', ['x=1'], 1, say=print, together=9
        )

    return make


def test_all_are_trained_at_once_and_tested_singly(processes, tmp_path):
    assert processes(row('a'), row('b'), row('c', of='c')).run() == {}
    for name in 'abc':
        folder = tmp_path / 'w/seed0' / name
        assert is_done(folder)
        assert (folder / 'asked.json').exists() == (name != 'c')
    asked = json.loads((tmp_path / 'w/seed0/b/asked.json').read_text())
    assert asked['cfg_options'] == ['seed=0', 'x=1']
    assert asked['resume'] is None
    log = (tmp_path / 'w/seed0/b/console.log').read_text()
    assert 'seed0/a/console.log' in log


def test_what_fails_is_told_of_each(processes, tmp_path):
    failed = processes(row('a', broken=True), row('b'), row('c')).run()
    assert failed == {'a seed 0': 'it is broken'}
    note = json.loads((tmp_path / 'w/seed0/a/failed.json').read_text())
    assert note == {'reason': 'it is broken'}
    assert is_done(tmp_path / 'w/seed0/b') and is_done(tmp_path / 'w/seed0/c')


def test_a_process_that_dies_is_told_of_all(processes, tmp_path, capsys):
    folder = tmp_path / 'w/seed0/a'
    folder.mkdir(parents=True)
    (folder / 'epoch_1.pth').touch()
    failed = processes(row('a'), row('b', killed=True), row('c')).run()
    # the first was through when it died
    assert is_done(folder)
    assert set(failed) == {'b seed 0', 'c seed 0'}
    assert 'out of memory' in failed['c seed 0']
    assert 'a seed 0: resumed' in capsys.readouterr().out
    assert json.loads((folder / 'asked.json').read_text())['resume'] == 'auto'
    assert processes(row('a'), row('b'), row('c')).run() == {}


def test_rows_that_draw_from_the_process_go_alone(tiny_configs):
    config = tiny_configs['kd']
    [run] = runs_of(Row('kd', 'kd', config))
    where = Path('w')
    assert stream_of_run(run, where, []) is None
    packed = stream_of_run(run, where, ['packed=True'])
    assert packed is not None
    other = ['packed=True', 'batch_size=2']
    assert stream_of_run(run, where, other) != packed
    weight = 'model.distiller.distill_losses.loss_hybrid.beta=0'
    assert stream_of_run(run, where, ['packed=True', weight]) == packed
    hook = "custom_hooks.append(dict(type='hkd_mm.CompileHook'))\n"
    config.write_text(config.read_text() + hook)
    assert stream_of_run(run, where, ['packed=True', 'compiled=True']) is None
