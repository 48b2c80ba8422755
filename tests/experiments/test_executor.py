# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Runs of a study: what is done, resumed, failed; with tools that only act."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from hkd_mm.experiments import child_processes
from hkd_mm.experiments.executor import RunExecutor
from hkd_mm.experiments.run_folders import is_done
from hkd_mm.experiments.study import Study, StudyRow, all_runs

TRAIN = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
with (folder / 'calls').open('a') as stream:
    print('train', *sys.argv[1:], file=stream)
if 'broken=True' in sys.argv:
    print('error: it is broken')
    sys.exit(2)
if 'slow=True' in sys.argv:
    if 'stay=True' in sys.argv:  # seconds of imports
        from hkd_mm.cli import run_tool
        run_tool(lambda: None)
    (folder / 'epoch_1.pth').touch()
    time.sleep(300)
report = dict(training_minutes=1.0, best=dict(balanced_accuracy=0.5))
(folder / 'student.pth').touch()
(folder / 'metrics.json').write_text(json.dumps(report))
"""
TEST = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1]).parent
with (folder / 'calls').open('a') as stream:
    print('test', *sys.argv[1:], file=stream)
(folder / 'test.json').write_text('{}')
(folder / 'predictions.csv').write_text('')
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    folder = tmp_path / 'tools'
    folder.mkdir()
    (folder / 'train.py').write_text(TRAIN)
    (folder / 'test.py').write_text(TEST)
    monkeypatch.setattr(child_processes, 'TOOLS', folder)
    return folder


def study_of(*rows):
    return Study(Path('s.py'), 's', rows, (), 'balanced_accuracy')


def row(name, after=(), **options):
    return StudyRow(name, name, Path(f'{name}.py'), options, after)


def test_those_that_share_a_run_wait_for_it(tools, tmp_path):
    teacher = StudyRow('t', 't', Path('t.py'), dict(broken=True), seeds=1)
    study = study_of(teacher, row('b', ('t',)), row('c'))
    runs = all_runs(study, range(3))
    assert len(runs) == 7
    said = []
    failed = RunExecutor(runs, tmp_path, [], 2, log=said.append).run()
    assert set(failed) == {'t seed 0', 'b seed 0', 'b seed 1', 'b seed 2'}
    assert failed['b seed 2'] == 'what it builds on failed'
    assert not (tmp_path / 'seed1/t').exists()


def calls(folder):
    return [line.split()[0] for line in (folder / 'calls').open()]


def test_every_run_is_trained_and_tested_once(tools, tmp_path):
    said = []
    study = study_of(row('a'), row('b', ('a',), place='{runs}/a'))
    runs = all_runs(study, range(2))
    work = RunExecutor(runs, tmp_path / 'w', ['data_root=x'], 2, log=said.append)
    assert work.run() == {}
    for name in 'ab':
        for seed in range(2):
            folder = tmp_path / f'w/seed{seed}/{name}'
            assert is_done(folder) and calls(folder) == ['train', 'test']
    words = (tmp_path / 'w/seed1/b/calls').read_text().split()
    assert {'seed=1', 'data_root=x'} <= set(words)
    assert f'place={tmp_path}/w/seed1/a' in words
    assert '--resume' not in words
    assert any('0.500' in line for line in said)
    assert work.run() == {}  # nothing is left to do
    assert calls(tmp_path / 'w/seed1/b') == ['train', 'test']


def test_a_failure_is_told_and_the_others_go_on(tools, tmp_path):
    study = study_of(
        row('bad', broken=True), row('builds_on_it', ('bad',)), row('good')
    )
    work = RunExecutor(
        all_runs(study, range(1)), tmp_path, [], 1, log=lambda line: None
    )
    failed = work.run()
    assert set(failed) == {'bad seed 0', 'builds_on_it seed 0'}
    assert 'it is broken' in failed['bad seed 0']
    note = json.loads((tmp_path / 'seed0/bad/failed.json').read_text())
    assert 'it is broken' in note['reason']
    assert is_done(tmp_path / 'seed0/good')
    # mended, it is tried again
    again = RunExecutor(
        all_runs(study_of(row('bad')), range(1)),
        tmp_path,
        [],
        1,
        log=lambda line: None,
    )
    assert again.run() == {}
    assert not (tmp_path / 'seed0/bad/failed.json').exists()


def test_a_trained_run_is_only_tested(tools, tmp_path):
    folder = tmp_path / 'seed0/a'
    folder.mkdir(parents=True)
    (folder / 'student.pth').touch()
    (folder / 'metrics.json').write_text(
        '{"training_minutes": 2, "best": {"balanced_accuracy": 0.1}}'
    )
    RunExecutor(all_runs(study_of(row('a')), range(1)), tmp_path, [], 1).run()
    assert calls(folder) == ['test']


def test_a_run_that_was_broken_off_is_resumed(tools, tmp_path):
    folder = tmp_path / 'seed0/a'
    folder.mkdir(parents=True)
    (folder / 'epoch_3.pth').touch()
    RunExecutor(all_runs(study_of(row('a')), range(1)), tmp_path, [], 1).run()
    assert '--resume' in (folder / 'calls').read_text().split('\n')[0]


def run_slowly(folder, stay):
    # ignored in whatever was started in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rows = row('a', slow=True, stay=stay)
    RunExecutor(all_runs(study_of(rows), range(2)), folder, [], 2).run()


@pytest.mark.parametrize('how', ['SIGINT', 'SIGTERM', 'SIGKILL'])
def test_killed_it_takes_its_runs_along(tools, tmp_path, how):
    whole = multiprocessing.get_context('fork').Process(
        target=run_slowly, args=(tmp_path, how == 'SIGKILL')
    )
    whole.start()
    begun = [tmp_path / f'seed{seed}/a/epoch_1.pth' for seed in range(2)]
    deadline = time.monotonic() + 200
    while not all(path.exists() for path in begun):
        assert time.monotonic() < deadline and whole.is_alive()
        time.sleep(0.05)
    os.kill(whole.pid, signal.Signals[how])
    whole.join(30)
    ended = whole.exitcode
    whole.kill()
    assert ended
    deadline = time.monotonic() + 60
    while _alive(str(tmp_path)):
        assert time.monotonic() < deadline, 'a training outlives its study'
        time.sleep(0.1)
    assert not list(tmp_path.rglob('failed.json'))  # nothing has failed


def _alive(word):
    found = []
    for entry in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            line = entry.read_bytes().decode().replace('\0', ' ')
        except OSError:
            continue
        if word in line and 'train.py' in line:
            found.append(int(entry.parent.name))
    return [pid for pid in found if pid != os.getpid()]


def test_a_reason_is_that_of_the_last_attempt(tools, tmp_path):
    folder = tmp_path / 'seed0/bad'
    folder.mkdir(parents=True)
    (folder / 'console.log').write_text('+ train.py\nerror: an old one\n')
    runs = all_runs(study_of(row('bad', broken=True)), range(1))
    failed = RunExecutor(runs, tmp_path, [], 1, log=lambda line: None).run()
    assert 'it is broken' in failed['bad seed 0']


def test_a_run_without_the_metric_fails_alone(tools, tmp_path):
    study = study_of(row('a'), row('b'))
    work = RunExecutor(all_runs(study, range(1)), tmp_path, [], 1, metric='nothing')
    assert set(work.run()) == {'a seed 0', 'b seed 0'}
