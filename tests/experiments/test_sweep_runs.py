# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Whole sweeps in processes of their own, with tools that only act."""

import os
import signal
from pathlib import Path

import optuna
import pytest

pytestmark = pytest.mark.slow
GRID = "sampler = 'grid'\nspace = dict(alpha=[0.1, 0.4, 0.5])\n"


def test_a_grid_is_trained_once_and_its_winner_tested_once(place):
    place.write(GRID + 'seeds = 2\n')
    said = place.sweep('--cfg-options', 'tau=2.0')
    runs = [f'{n:04d}_seed{seed}' for n in range(3) for seed in range(2)]
    assert place.diary('train') == place.diary('trained') == runs
    assert place.diary('test') == ['0001_seed0', '0001_seed1']
    found = place.told()
    assert found['winner']['params'] == dict(alpha=0.4)
    # mean over the seeds of 1 + seed / 100
    assert found['winner']['value'] == pytest.approx(1.005)
    assert found['winner']['values'] == [1.0, 1.01]
    assert found['winner']['test'] == dict(balanced_accuracy=0.4, top1=0.25)
    assert found['tested_trials'] == [1]
    tested = [path.parent.name for path in place.work.rglob('predictions.csv')]
    assert sorted(tested) == ['0001_seed0', '0001_seed1']
    assert found['cfg_options'] == ['tau=2.0']
    assert 'mean of 2 seeds' in found['selection']
    table = (place.work / 'table.md').read_text()
    assert '| 1 | 0.4 | 1.005 +- 0.007 | 2.0 | complete |' in table
    assert 'winner: trial 1, alpha=0.4' in said
    console = (place.work / 'trials/0001/console.log').read_text()
    assert 'alpha=0.4' in console and 'tau=2.0' in console

    # once more: it only prints
    before = {p: p.stat().st_mtime_ns for p in place.work.rglob('*.json')}
    assert 'winner: trial 1' in place.sweep('--cfg-options', 'tau=2.0')
    assert len(place.diary('train')) == 6 and len(place.diary('test')) == 2
    assert before == {p: p.stat().st_mtime_ns for p in before}

    # other settings do not mix with it
    said = place.sweep('--cfg-options', 'tau=3.0', code=2)
    assert 'cfg_options is other than when the sweep in' in said
    place.write(GRID + 'seeds = 1\n')
    said = place.sweep('--cfg-options', 'tau=2.0', code=2)
    assert 'seeds is other' in said

    # a finer grid: only what is new is trained
    place.write(GRID.replace('0.5]', '0.5, 0.45]') + 'seeds = 2\n')
    place.sweep('--cfg-options', 'tau=2.0')
    assert place.diary('train') == [*runs, '0003_seed0', '0003_seed1']
    assert len(place.diary('test')) == 2


def test_two_sweeps_on_one_storage_share_the_trials(place):
    values = [n / 100 for n in range(12)]
    place.write(f"sampler = 'grid'\nspace = dict(alpha={values})\n")
    both = [place.start('--workers', '2') for _ in range(2)]
    for process in both:
        out = process.communicate(timeout=240)[0]
        assert process.returncode == 0, out
    assert place.diary('train') == [f'{n:04d}_seed0' for n in range(12)]
    assert not place.diary('twice') and not place.diary('resume')
    assert place.diary('test') == ['0011_seed0']
    found = place.told()['trials']
    assert sorted(trial['params']['alpha'] for trial in found) == values


@pytest.mark.parametrize('how', ['SIGKILL', 'SIGTERM', 'SIGINT'])
def test_a_killed_sweep_goes_on_where_it_was(place, how):
    place.write(GRID + "options = dict(mode='slow')\n")
    first = place.start('--workers', '2')
    runs = place.work / 'runs'
    place.wait_for(lambda: len(list(runs.glob('*/history.json'))) == 2)
    before = [path.parent.name for path in runs.glob('*/history.json')]
    os.kill(first.pid, signal.Signals[how])
    assert first.wait(60) != 0
    place.wait_for(lambda: not _alive(str(place.folder)))  # all with it
    assert not place.diary('trained')
    if how == 'SIGKILL':  # once more; the resumed ones do not wait
        third = place.start('--workers', '1')
        place.wait_for(lambda: len(list(runs.glob('*/history.json'))) == 3)
        assert place.diary('resume') == sorted(before)
        assert len(place.diary('trained')) == 2
        third.kill()
        third.wait()
        place.wait_for(lambda: not _alive(str(place.folder)))
        before = [f'{n:04d}_seed0' for n in range(3)]
    (place.work / 'go').touch()
    place.sweep()
    assert place.diary('train') == [f'{n:04d}_seed0' for n in range(3)]
    assert place.diary('resume') == sorted(before) and not place.diary('twice')
    assert [t['state'] for t in place.told()['trials']] == ['complete'] * 3
    assert place.told()['winner']['params'] == dict(alpha=0.4)


def test_the_trial_of_a_killed_worker_goes_to_another(place):
    place.write(GRID + "options = dict(mode='slow')\n")
    first = place.start('--worker')
    runs = place.work / 'runs'
    second = None
    # a worker alone has an empty queue: a sweep fills it
    assert first.wait(200) == 0
    whole = place.start('--workers', '1')
    place.wait_for(lambda: (runs / '0000_seed0/history.json').is_file())
    second = place.start('--worker')
    place.wait_for(lambda: (runs / '0001_seed0/history.json').is_file())
    whole.kill()  # with its worker, and the training of trial 0
    whole.wait()
    os.kill(_trainings(place, '0001_seed0')[0], signal.SIGKILL)
    # trial 1 has failed; the worker takes up trial 0 before it begins 2
    place.wait_for(lambda: place.diary('trained') == ['0000_seed0'])
    assert place.diary('resume') == ['0000_seed0']
    assert not place.diary('twice')
    place.wait_for(lambda: (runs / '0002_seed0/history.json').is_file())
    second.terminate()
    assert second.wait(60) != 0
    place.wait_for(lambda: not _alive(str(place.folder)))


@pytest.mark.parametrize('mode', ['broken', 'nan', 'killed'])
def test_a_failed_trial_is_told_and_the_others_go_on(place, mode):
    place.write(GRID + f'options = dict(mode={mode!r})\n')
    said = place.sweep()
    states = [trial['state'] for trial in place.told()['trials']]
    assert states == ['fail', 'complete', 'complete']
    reason = place.told()['trials'][0]['reason']
    why = dict(
        broken='it is broken',
        nan='balanced_accuracy is no number on validation',
        killed='train.py ended with -9',
    )[mode]
    assert why in reason and why in said
    assert why in (place.work / 'table.md').read_text()
    assert place.told()['winner']['number'] == 1
    place.sweep()  # failed ones are not tried again
    assert len(place.diary('train')) == 3
    if mode == 'broken':  # unless that is asked for
        place.sweep('--retry-failed')
        assert place.diary('train')[3:] == ['0003_seed0']
        assert place.told()['trials'][3]['params'] == dict(alpha=0.1)


def test_nothing_but_failures_has_no_winner(place):
    place.write(
        "sampler = 'grid'\nspace = dict(alpha=[0.1])\noptions = dict(mode='broken')\n"
    )
    said = place.sweep(code=2)
    assert 'error: no trial came to its end' in said
    assert 'it is broken' in said
    assert not place.diary('test') and place.told()['winner'] is None


def test_a_search_draws_other_values_in_each_trial(place):
    place.write(
        "sampler = 'random'\ntrials = 6\nseeds = 1\n"
        'space = dict(alpha=dict(low=0.0, high=1.0))\n'
    )
    place.sweep('--workers', '2')
    drawn = [trial['params']['alpha'] for trial in place.told()['trials']]
    assert len(set(drawn)) == 6
    best = min(drawn, key=lambda alpha: abs(alpha - 0.4))
    assert place.told()['winner']['params'] == dict(alpha=best)
    # more of them, shown on a terminal
    said = place.sweep('--trials', '8', env=dict(FORCE_COLOR='1'))
    assert '8 of 8 trials; best' in said and 'winner: trial' in said
    assert len(place.told()['trials']) == 8
    assert len(place.diary('train')) == 8


def test_weak_trials_are_ended_early(place):
    place.write(
        "sampler = 'grid'\nspace = dict(alpha=[0.4, 0.41, 0.9])\n"
        "pruner = dict(type='median', n_startup_trials=2)\n"
        "options = dict(mode='epochs')\n"
    )
    said = place.sweep()
    states = [trial['state'] for trial in place.told()['trials']]
    assert states == ['complete', 'complete', 'pruned']
    assert 'trial 2: pruned after epoch' in said
    assert '0002_seed0' not in place.diary('trained')


@pytest.mark.parametrize('sampler', ['grid', 'tpe'])
def test_a_database_holds_the_trials(place, sampler):
    optuna.create_study(storage='sqlite://')  # imports what the forks need
    place.write(
        f'sampler = {sampler!r}\n'
        + ('trials = 3\n' * (sampler == 'tpe'))
        + 'space = dict(alpha=[0.1, 0.4, 0.5])\n'
    )
    url = f'sqlite:///{place.folder}/trials.db'
    place.sweep('--storage', url, '--workers', '2')
    assert not (place.work / 'journal.log').exists()
    assert len(place.diary('train')) == 3
    if sampler == 'grid':
        return
    said = place.sweep(code=2)  # the file is another storage
    assert 'do not belong together' in said
    place.work = place.folder / 'other'
    assert 'do not belong together' in place.sweep('--storage', url, code=2)


def test_a_storage_that_cannot_be_opened_is_one_line(place):
    place.write(GRID)
    said = place.sweep('--storage', 'sqlite:////none/there.db', code=2)
    assert 'cannot be opened: ' in said
    assert 'Traceback' not in said


def _trainings(place, run):
    found = []
    for entry in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            line = entry.read_bytes().decode()
        except OSError:
            continue
        if str(place.work / 'runs' / run) in line and 'train.py' in line:
            found.append(int(entry.parent.name))
    return found


def _alive(word):
    found = []
    for entry in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            line = entry.read_bytes().decode()
        except OSError:
            continue
        if f'{word}/tools/' in line:
            found.append(line)
    return found
