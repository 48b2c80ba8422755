# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Workers of a sweep: processes of this machine or jobs of a cluster."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hkd_mm.cli import PARENT
from hkd_mm.errors import UserError
from hkd_mm.experiments.children import (
    Interrupted,
    end,
    last_line,
    terminated_as_exit,
)
from hkd_mm.experiments.sweep_file import Sweep
from hkd_mm.experiments.sweep_report import (
    ProgressTable,
    is_over,
    winner_of,
    write_report,
)
from hkd_mm.experiments.sweep_storage import open_study, optuna
from hkd_mm.experiments.trial_queue import TrialQueue
from hkd_mm.experiments.trial_runner import Trainings
from hkd_mm.io.locks import locked


def work(
    sweep: Sweep, work_dir: Path, url: str | None, options: list[str]
) -> None:
    """Run trials until all have come to an end.

    Args:
        sweep: whose.
        work_dir: of the sweep.
        url: of the storage, see :func:`.storage.open_study`.
        options: of the command line, for every run.

    Raises:
        UserError: the storage cannot be used, a training was ended by
            somebody else, or the winner cannot be tested.
    """
    study = open_study(sweep, work_dir, url)
    study.pruner = make_pruner(sweep)
    queue = TrialQueue(sweep, study, work_dir)
    trainings = Trainings(sweep, queue, options)
    try:
        with terminated_as_exit():
            while _one(queue, trainings):
                pass
            _finish(sweep, queue, trainings, options)
    except Interrupted as error:
        raise UserError(f'{error}; the same command goes on') from None


def _one(queue: TrialQueue, trainings: Trainings) -> bool:
    with ExitStack() as held:
        trial = queue.take(held)
        if trial is None:
            return False
        print(f'trial {trial.number}: {trial.params}', flush=True)
        trainings.run(trial)
        return True


def _finish(
    sweep: Sweep, queue: TrialQueue, trainings: Trainings, options: list[str]
) -> None:
    with locked(queue.work_dir / 'finishing'):
        if is_over(sweep, queue):  # another worker was faster
            return
        winner = winner_of(sweep, queue.study.get_trials(deepcopy=False))
        if winner is not None:
            trainings.test(winner.number, winner.params)
        write_report(sweep, queue, options)


def make_pruner(sweep: Sweep) -> Any:
    """The ``optuna.pruners`` object that a sweep asks for.

    Raises:
        UserError: it does not take one of the arguments.
    """
    pruners = optuna().pruners
    if sweep.pruner is None:
        return pruners.NopPruner()
    given = dict(sweep.pruner)
    kind = dict(
        median=pruners.MedianPruner, hyperband=pruners.HyperbandPruner
    )[given.pop('type')]
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise UserError(f'{sweep.path}: pruner: {error}') from None


_LOOK = 1.0  # seconds between two looks
_MINUTES = 24 * 60  # of a job; submitit's own 5 would end the first training


def run_here(
    command: list[str], workers: int, work_dir: Path, board: ProgressTable
) -> list[str]:
    """Run workers side by side until they have ended.

    Args:
        command: of one, after the interpreter.
        workers: how many; they share the cores, and the GPUs in turn.
        work_dir: of the sweep; the workers' output goes below.
        board: shown meanwhile.

    Returns:
        Why workers failed; nothing where none did.
    """
    folder = work_dir / 'workers'
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f'{os.getpid()}_{i}.log' for i in range(workers)]
    started: list[subprocess.Popen] = []
    try:
        for log, env in zip(logs, environments(workers)):
            with log.open('w') as stream:
                started.append(
                    subprocess.Popen(
                        [sys.executable, *command],
                        stdout=stream,
                        stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL,
                        env={**os.environ, **env, PARENT: str(os.getpid())},
                    )
                )
        while any(child.poll() is None for child in started):
            board.update()
            time.sleep(_LOOK)
    finally:
        for child in started:
            child.terminate()
        for child in started:
            end(child)
    board.update()
    return [last_line(log) for log, c in zip(logs, started) if c.returncode]


def environments(workers: int) -> list[dict[str, str]]:
    """What each worker is told of the cores and GPUs that it may use."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    given = os.environ.get('CUDA_VISIBLE_DEVICES')
    if given is None:
        count = len(list(Path('/dev').glob('nvidia[0-9]*')))
        devices = [str(index) for index in range(count)]
    else:
        devices = [name for name in given.split(',') if name.strip()]
    found = [dict(OMP_NUM_THREADS=str(threads)) for _ in range(workers)]
    if len(devices) > 1 and workers > 1:
        for index, env in enumerate(found):
            env['CUDA_VISIBLE_DEVICES'] = devices[index % len(devices)]
    return found


def run_on_slurm(
    command: list[str],
    workers: int,
    work_dir: Path,
    options: list[str],
    board: ProgressTable,
) -> list[str]:
    """Submit workers as jobs and follow them.

    Args:
        command: of one, after the interpreter.
        workers: how many jobs.
        work_dir: of the sweep, on a file system that all nodes share.
        options: ``key=value`` of sbatch, as submitit calls them.
        board: shown meanwhile.

    Returns:
        Why jobs failed; nothing where none did.

    Raises:
        UserError: submitit or Slurm is missing, or a job is refused.
    """
    submitit = slurm()
    try:
        executor = submitit.SlurmExecutor(work_dir / 'slurm')
        executor.update_parameters(**_parameters(options))
        jobs = [
            executor.submit(
                submitit.helpers.CommandFunction([sys.executable, *command])
            )
            for _ in range(workers)
        ]
    except Exception as error:  # of submitit, or sbatch says no
        reason = ' '.join(str(error).split())
        raise UserError(f'--launcher slurm: {reason}') from error
    ids = ' '.join(job.job_id for job in jobs)
    print(f'jobs {ids}; they go on when this is ended', flush=True)
    while not all(job.done() for job in jobs):
        board.update()
        time.sleep(_LOOK)
    board.update()
    failed = [job.exception() for job in jobs]
    return [' '.join(str(error).split())[-400:] for error in failed if error]


def slurm() -> Any:
    """The package submitit, on a machine with Slurm.

    Raises:
        UserError: one of them is missing.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(
            '--launcher slurm needs submitit, which is not installed; '
            'pip install "submitit>=1.5"'
        ) from None
    for name in ('sbatch', 'srun'):
        if shutil.which(name) is None:
            raise UserError(
                f'--launcher slurm: there is no {name} here; run it on a '
                'login node of the cluster, or leave --launcher out'
            )
    return submitit


def _parameters(options: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = dict(job_name='hkd_mm_sweep', time=_MINUTES)
    for option in options:
        key, equals, value = option.partition('=')
        if not equals:
            raise UserError(f'--slurm-options {option}: write key=value')
        found[key] = int(value) if value.isdigit() else value
    return found
