# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Workers here and on a cluster, teachers, and what a missing package says."""

import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hkd_mm.errors import UserError
from hkd_mm.experiments import child_processes, run_sweep, trial_queue
from hkd_mm.experiments import trial_runner as teachers
from hkd_mm.experiments.progress_table import SweepProgress
from hkd_mm.experiments.run_folders import write_json
from hkd_mm.experiments.sweep_file import optuna, read_sweep
from hkd_mm.experiments.trial_queue import JOURNAL, TrialQueue, open_study
from hkd_mm.io import locks as file_lock

ROOT = Path(__file__).resolve().parents[2]
GRID = "sampler = 'grid'\nspace = dict(alpha=[0.1, 0.4])\n"
# A cluster of one machine: sbatch starts the job at once, srun runs it.
SBATCH = """#!/usr/bin/env bash
cp "$1" "$(dirname "$0")/submitted"
SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=1 SLURM_NODEID=0 \\
SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_JOB_NODELIST=here \\
  bash "$1" >"$(dirname "$0")/said" 2>&1 &
echo "Submitted batch job 7"
"""
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do
  case $1 in --output|--error) shift 2;; *) shift;; esac
done
exec "$@"
"""


def queue_of(place, text):
    place.write(text)
    found = read_sweep(place.folder / 's.py')
    study = open_study(found, place.work)
    return TrialQueue(found, study, place.work)


@pytest.mark.nightly
def test_a_cluster_runs_the_workers(place):
    pytest.importorskip('submitit')
    place.write(GRID)
    bin_dir = place.folder / 'bin'
    bin_dir.mkdir()
    for name, text in dict(sbatch=SBATCH, srun=SRUN, sacct='').items():
        path = bin_dir / name
        path.write_text(text or '#!/usr/bin/env bash\n')
        path.chmod(0o755)
    said = place.sweep(
        '--launcher',
        'slurm',
        '--slurm-options',
        'partition=skin',
        'gpus_per_node=1',
        env=dict(PATH=f'{bin_dir}:{os.environ["PATH"]}'),
    )
    assert 'jobs 7' in said and 'winner: trial 1, alpha=0.4' in said
    assert place.diary('train') == ['0000_seed0', '0001_seed0']
    submitted = (bin_dir / 'submitted').read_text()
    for line in ('partition=skin', 'gpus-per-node=1', 'time=1440'):
        assert f'#SBATCH --{line}\n' in submitted


@pytest.mark.parametrize('what', ['submitit', 'sbatch'])
def test_without_slurm_one_line_says_what_is_missing(monkeypatch, tmp_path, what):
    if what == 'submitit':
        monkeypatch.setitem(sys.modules, 'submitit', None)
    monkeypatch.setenv('PATH', str(tmp_path))
    said = 'pip install "submitit' if what == 'submitit' else 'no sbatch here'
    with pytest.raises(UserError, match=said):
        run_sweep.slurm()


def test_without_optuna_one_line_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'optuna', None)
    with pytest.raises(UserError, match='pip install "optuna'):
        optuna()


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['s.py', '--workers', '0'], '--workers must be between 1 and 256'),
        (['s.py', '--trials', '-1'], '--trials must be between 1 and 10000'),
        (['s.py', '--workers', '100000'], '--workers must be between 1 and 256'),
        (['s.py', '--slurm-options', 'a=b'], 'goes with --launcher slurm'),
    ],
)
def test_the_command_line_is_read_before_anything_is_loaded(words, said):
    done = subprocess.run(
        [sys.executable, '-S', str(ROOT / 'tools/sweep.py'), *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and said in done.stderr


def test_a_sweep_leaves_the_memory_to_its_trainings():
    code = 'import sys, hkd_mm.experiments.run_sweep; assert not heavy()'
    code = f'heavy = lambda: "torch" in sys.modules; {code}'
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


def test_gpus_are_shared_in_turn(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,6')
    found = run_sweep.environments(3)
    assert [e['CUDA_VISIBLE_DEVICES'] for e in found] == ['4', '6', '4']
    assert 'CUDA_VISIBLE_DEVICES' not in run_sweep.environments(1)[0]
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert 'CUDA_VISIBLE_DEVICES' not in run_sweep.environments(3)[0]


def test_a_journal_that_a_writer_left_unfinished_is_mended(place):
    queue_of(place, GRID).fill()
    path = place.work / JOURNAL
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "worker')
    again = queue_of(place, GRID)
    again.study.set_user_attr('a', 1)
    text = path.read_bytes()
    assert text.startswith(whole) and b'"worker{' not in text
    assert queue_of(place, GRID).study.user_attrs['a'] == 1
    assert len(again.study.trials) == 2


def test_a_place_without_locks_is_refused(monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(file_lock._NO_LOCKS[0], 'no locks')

    assert file_lock.has_locks(tmp_path)
    monkeypatch.setattr(file_lock.fcntl, 'flock', refuse)
    with pytest.raises(UserError, match='has no locks'):
        run_sweep.run_sweep(None, tmp_path)


def test_a_space_that_changes_is_refused_before_it_does_harm(place):
    words = "sampler = 'grid'\nspace = dict(alpha=[0.1], mode=['', 'x'])\n"
    queue = queue_of(place, words)
    queue.fill()
    with ExitStack() as held:
        assert queue.take(held).params == dict(alpha=0.1, mode='')
    queue_of(place, words.replace('[0.1]', '[0.1, 0.2]')).fill()  # numbers
    assert len(queue.study.trials) == 4
    queue = queue_of(place, words.replace("'x'", "'x', 'y'"))
    with pytest.raises(UserError, match="space\\['mode'\\] does not go"):
        queue.fill()
    assert len(queue.study.trials) == 4


def test_a_worker_takes_what_nobody_holds_first(place):
    queue = queue_of(place, GRID)
    queue.fill()
    with ExitStack() as held:
        assert queue.take(held).number == 0
    # its lock is free again although it has not come to its end
    with ExitStack() as held:
        again = queue.take(held)
        assert (again.number, again.params) == (0, dict(alpha=0.1))
        queue.study.tell(again, 0.5)
        assert queue.take(held).number == 1


def test_all_trials_share_one_teacher(place, monkeypatch):
    place.write(
        "sampler = 'grid'\n"
        "space = {'alpha': [0.1, 0.4], 'teacher': ['a', 'b']}\n"
        'options = dict(tau=2.0)\nseeds = [3, 4]\n'
    )
    given = read_sweep(place.folder / 's.py')
    asked = []

    def run(tool, arguments, log, options):
        asked.append(options)
        folder = Path(arguments[arguments.index('--work-dir') + 1])
        (place.folder / 'best.pth').touch()
        write_json(
            folder / teachers.TEACHER,
            dict(checkpoint=str(place.folder / 'best.pth')),
        )

    monkeypatch.setattr(child_processes, 'run_tool', run)
    log = place.folder / 'log'
    for alpha in (0.1, 0.4):
        for teacher in 'ab':
            own = given, place.work, ['data_root=x']
            told = teachers.teacher_option(
                *own, dict(alpha=alpha, teacher=teacher), log
            )
            assert told == [f'model.teacher_ckpt={place.folder / "best.pth"}']
    # what a trial varies is none of the teacher's business, but for its name
    common = ['tau=2.0', 'seed=3', 'data_root=x']
    assert asked == [[*common, 'teacher=a'], [*common, 'teacher=b']]
    named = given, place.work, ['model.teacher_ckpt=y']
    assert teachers.teacher_option(*named, dict(alpha=0.1, teacher='c'), log) == []


def test_a_teacher_that_cannot_be_trained_ends_the_worker(place):
    place.write(GRID)
    (place.folder / 'tools/sweep.py').write_text("print('error: no images')\n1/0")
    given = read_sweep(place.folder / 's.py')
    before, child_processes.TOOLS = child_processes.TOOLS, place.folder / 'tools'
    try:
        own = given, place.work, []
        with pytest.raises(UserError, match='no teacher: .*no images'):
            teachers.teacher_option(*own, dict(alpha=0.1), place.work / 'log')
    finally:
        child_processes.TOOLS = before


def test_a_config_without_a_teacher_has_none(tmp_path):
    teachers.provide_teacher(
        Namespace(
            teacher_of=str(ROOT / 'configs/demo/mbv2_demo.py'),
            cfg_options=['max_epochs=2'],
            work_dir=str(tmp_path / 'runs/x'),
        )
    )
    told = json.loads((tmp_path / 'runs/x' / teachers.TEACHER).read_text())
    assert told == dict(checkpoint=None)


def test_the_table_shows_what_runs_and_what_was_best(place, capsys):
    queue = queue_of(place, GRID)
    queue.fill()
    with SweepProgress(queue) as progress:
        first = queue.study.ask()
        first.suggest_float('alpha', 0.1, 0.4)
        first.report(0.7, 2)
        progress.update()
        queue.study.tell(first, 0.75)
        progress.update()
        progress.update()
        assert re.fullmatch(
            r'1 of 2 trials, about \d+ s left; best: 0\.750, trial 0',
            progress.summary(),
        )
        rows = progress.table()
        assert [list(c.cells) for c in rows.columns] == [
            ['0'],
            ['0.1'],
            ['2'],
            ['0.750'],
            ['complete'],
        ]
    said = capsys.readouterr().out.split('\n')
    assert said == [
        'trial 0: alpha=0.1',
        'trial 0: balanced_accuracy 0.750 on validation',
        '',
    ]


def test_a_trial_that_ends_while_it_is_looked_at_is_left_alone(place, monkeypatch):
    queue = queue_of(place, GRID)
    queue.fill()
    with ExitStack() as held:
        owned = queue.take(held)
    active = []

    @contextmanager
    def locked(folder, wait=True):
        if folder.name == '0000':  # its owner tells, then lets go
            queue.study.tell(owned, 0.5)
        active.append(folder.name)
        yield True
        active.remove(folder.name)

    monkeypatch.setattr(trial_queue, 'locked', locked)
    with ExitStack() as held:
        assert queue.take(held).number == 1
        assert active == ['0001']


def test_a_point_that_a_killed_worker_half_told_is_not_queued_again(place):
    words = "sampler = 'grid'\nspace = dict(alpha=[0.1, 0.4], mode=['', 'x'])\n"
    queue = queue_of(place, words)
    queue.fill()
    queue.study.ask().suggest_float('alpha', 0.1, 0.4)  # and no mode
    queue.fill()
    trials = queue.study.trials
    assert len(trials) == 4 and trials[0].params == dict(alpha=0.1)
    assert trial_queue.params_of(trials[0]) == dict(alpha=0.1, mode='')


def test_seeds_of_a_sampler_next_to_each_other_share_no_draw(place):
    drawn = []
    for seed in (0, 1):
        place.work = place.folder / f'work{seed}'
        queue = queue_of(
            place,
            f"sampler = 'random'\ntrials = 4\nsampler_seed = {seed}\n"
            'space = dict(alpha=dict(low=0.0, high=1.0))\n',
        )
        for _ in range(4):
            with ExitStack() as held:
                trial = queue.take(held)
                drawn.append(trial.params['alpha'])
                queue.study.tell(trial, 0.5)
    assert len(set(drawn)) == 8
