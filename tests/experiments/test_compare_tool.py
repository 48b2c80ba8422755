# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""tools/compare.py, with real trainings of tiny networks."""

import csv
import json
from pathlib import Path

import pytest
from processes import ForkedTool
from rich.console import Console

from hkd_mm.experiments.progress_table import StudyProgress
from hkd_mm.experiments.study import all_runs, of_configs


@pytest.fixture
def forked_tools(monkeypatch, quick_runner):
    """Each run is trained and tested in a process, though in none of its own."""
    monkeypatch.setattr('hkd_mm.experiments.child_processes.start', ForkedTool)
    monkeypatch.setattr('hkd_mm.experiments.child_processes.LOOK', 0.1)


def report(path):
    """Have a tiny config leave what every shipped one does."""
    hook = "dict(type='hkd_mm.EpochSeedHook')"
    text = Path(path).read_text()
    assert hook in text
    new = f"dict(type='hkd_mm.RunReportHook'), {hook}"
    Path(path).write_text(text.replace(hook, new))


def test_two_configs_from_nothing_to_a_table(tiny_configs, tool, capfd, forked_tools):
    for path in tiny_configs.values():
        report(path)
    argv = [str(tiny_configs['student']), str(tiny_configs['kd'])]
    argv += ['--work-dir', 'w', '--seeds', '1', '--jobs', '2']
    argv += ['--cfg-options', 'max_epochs=1']
    assert tool('compare')(argv) == 0
    said = capfd.readouterr().out
    table = Path('w/table.md').read_text().splitlines()[:-2]
    # after one epoch a row may be marked: it predicts one class only
    names = [line.split('|')[1].strip(' *') for line in table[2:]]
    assert names == ['tiny_student', 'tiny_kd']
    test = json.loads(Path('w/seed0/tiny_kd/test.json').read_text())
    assert f'| {test["balanced_accuracy"]:.3f} |' in table[3]
    assert 'against tiny_student' in table[0] and ', p ' in table[3]
    assert 'tiny_kd seed 0: done' in said and 'Test split, ' in said
    assert Path('w/seed0/tiny_teacher/student.pth').exists()  # beside it
    # the same command trains nothing again, another one is refused
    assert tool('compare')(argv) == 0
    assert 'tiny_kd seed 0: was done before' in capfd.readouterr().out
    assert tool('compare')([*argv[:-1], 'max_epochs=2']) == 2
    told = capfd.readouterr().err
    assert 'holds 2 runs of another study: config: ' in told
    facts = json.loads(Path('w/results.json').read_text())
    assert facts['seeds'] == 1 and facts['of_another_origin'] == {}


@pytest.mark.parametrize(
    ('argv', 'said'),
    [
        (['nowhere.py'], 'config nowhere.py is no file'),
        (['tiny_student.py', '--rows', 'x'], '--rows x: comparison has'),
        (['tiny_student.py', '--baseline', 'x'], '--baseline x: the rows are'),
        (['tiny_student.py', '--size', 's'], '--size s: only a study file'),
    ],
)
def test_mistakes_are_one_line(tiny_configs, tool, capfd, argv, said):
    folder = Path(tiny_configs['student']).parent
    argv = [str(folder / argv[0]), *argv[1:]]
    assert tool('compare')(argv) == 2
    errors = [
        line
        for line in capfd.readouterr().err.splitlines()
        if line.startswith('error: ')
    ]
    assert len(errors) == 1 and said in errors[0].replace(f'{folder}/', '')


@pytest.mark.parametrize('given', [['--stale', 'keep'], ['--stale=redo']])
def test_the_old_name_of_outdated_is_refused(tool, capfd, given):
    with pytest.raises(SystemExit):
        tool('compare')(['a.py', *given])
    errors = capfd.readouterr().err.splitlines()[-1]
    assert errors.endswith('error: --stale is now called --outdated')


@pytest.mark.parametrize(
    'given',
    [('folds', '100000'), ('folds', '-1'), ('seeds', '0'), ('jobs', '1000000')],
)
def test_numbers_have_bounds(tool, capfd, given):
    with pytest.raises(SystemExit):
        tool('compare')(['a.py', f'--{given[0]}', given[1]])
    errors = capfd.readouterr().err.splitlines()[-1]
    assert f'error: --{given[0]} must be between' in errors


def test_the_table_shows_where_every_run_stands(tmp_path):
    study = of_configs(['a.py', 'b.py'])
    for name, best in {
        'seed0/a': dict(balanced_accuracy=0.4321),
        'seed1/b': dict(dice=0.5),  # of another task
    }.items():
        done = tmp_path / name
        done.mkdir(parents=True)
        report = dict(training_minutes=1, best=best)
        (done / 'metrics.json').write_text(json.dumps(report))
        for name in ('student.pth', 'test.json', 'predictions.csv'):
            (done / name).touch()
    under_way = tmp_path / 'seed1/a'
    under_way.mkdir(parents=True)
    (under_way / 'history.json').write_text('[{"epoch": 7}]')
    failed = tmp_path / 'seed0/b'
    failed.mkdir()
    (failed / 'failed.json').write_text('{}')
    console = Console(width=100, record=True, file=open('/dev/null', 'w'))
    runs = all_runs(study, range(3))
    progress = StudyProgress(study, tmp_path, runs, lambda: '1 of 4 runs')
    console.print(progress.table())
    lines = console.export_text().splitlines()
    cells = [
        [cell.strip() for cell in line.split('│')[1:-1]]
        for line in lines
        if line.startswith('│')
    ]
    assert cells == [
        ['a', '0.432', 'epoch 7', '-'],
        ['b', 'failed', 'done', '-'],
    ]


def test_folds_test_every_photograph_once_a_seed(
    tiny_configs, tool, capfd, forked_tools
):
    report(tiny_configs['student'])
    argv = [str(tiny_configs['student']), '--work-dir', 'w', '--seeds', '1']
    argv += ['--folds', '3', '--cfg-options', 'max_epochs=1']
    assert tool('compare')(argv) == 0
    with open('w/predictions.csv', newline='') as stream:
        lines = list(csv.DictReader(stream))
    assert len({line['sample_id'] for line in lines}) == len(lines) == 36
    for fold in range(3):
        split = json.loads(Path(f'w/splits/fold{fold}.json').read_text())
        path = f'w/fold{fold}/seed0/tiny_student/predictions.csv'
        with open(path, newline='') as stream:
            tested = sorted(x['sample_id'] for x in csv.DictReader(stream))
        assert tested == split['test'] and len(tested) == 12
    assert '1 seed x 3 folds' in ' '.join(capfd.readouterr().out.split())
    argv[argv.index('3')] = '4'
    assert tool('compare')(argv) == 2
    assert 'another fold than one of 4' in capfd.readouterr().err
