# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Sweep settings with workers, here or on a cluster, and name the winner.

A worker lives as long as the trainings, and leaves them the memory: torch is
imported for the report at the end alone.
"""

import os
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hkd_mm.config.compose import compose_config
from hkd_mm.errors import UserError
from hkd_mm.experiments import child_processes, sweep_report
from hkd_mm.experiments.outdated import check_settings, sweep_settings
from hkd_mm.experiments.progress_table import SweepProgress
from hkd_mm.experiments.sweep_file import Sweep, corners, optuna, read_sweep
from hkd_mm.experiments.table_text import format_params
from hkd_mm.experiments.trial_queue import TrialQueue, open_study
from hkd_mm.experiments.trial_runner import TrialRunner, as_options
from hkd_mm.io.locks import has_locks, locked
from hkd_mm.io.schema import read_as
from hkd_mm.lazy import require

_MINUTES = 24 * 60  # of a job; submitit's own 5 would end the first training


def main(args: Namespace) -> None:
    """Sweep as the command line asks."""
    sweep = read_sweep(args.sweep, args.trials)
    folder, options = sweep_folder(args, sweep), sweep_options(args)
    given = args.launcher, args.slurm_options or [], args.retry_failed
    run_sweep(sweep, folder, args.workers, args.storage, options, *given)


def run_sweep(
    sweep: Sweep,
    work_dir: Path,
    workers: int = 1,
    url: str | None = None,
    options: Sequence[str] = (),
    launcher: str = 'none',
    slurm_options: Sequence[str] = (),
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Run what is missing of a sweep, print the winner and return ``sweep.json``.

    The ``work_dir`` is an absolute path; the rest are options of ``tools/sweep.py``.
    """
    if not has_locks(work_dir / 'taking'):
        raise UserError(
            f'the file system of {work_dir} has no locks, and two workers '
            'would run the same trial; give another --work-dir'
        )
    if launcher == 'slurm':
        slurm()
    study = open_study(sweep, work_dir, url)
    make_pruner(sweep)
    check_options(sweep, work_dir, options)
    check_settings(study, sweep_settings(sweep, work_dir, options), work_dir)
    queue = TrialQueue(sweep, study, work_dir)
    queue.fill(retry_failed)
    progress = SweepProgress(queue)
    reasons: list[str] = []
    if not sweep_report.is_over(queue):
        command = [sys.executable, str(child_processes.TOOLS / 'sweep.py')]
        command += [str(sweep.path), '--worker', '--work-dir', str(work_dir)]
        if sweep.sampler != 'grid':
            command += ['--trials', str(sweep.trials)]
        if url:
            command += ['--storage', url]
        if options:
            command += ['--cfg-options', *options]
        with progress:
            given = command, workers, work_dir, progress.update
            if launcher == 'slurm':
                reasons = run_on_slurm(*given, slurm_options)
            else:
                reasons = run_here(*given)
    reasons = list(dict.fromkeys(reasons))
    if not sweep_report.is_over(queue):
        why = '; '.join(reasons) or 'its workers have ended'
        raise UserError(f'the sweep is not at its end: {why}; the same command goes on')
    for reason in reasons:
        print(f'a worker ended before the others: {reason}', flush=True)
    return _print_result(queue, progress)


def check_options(sweep: Sweep, work_dir: Path, options: list[str]) -> None:
    """Try the options of a trial on every config before any is trained."""
    fixed = {option.partition('=')[0] for option in options}
    common = as_options(sweep.common(work_dir))
    for params in corners(sweep):
        varied = sweep.varied(params, work_dir)
        for key in sorted(varied.keys() & fixed):
            raise UserError(f'--cfg-options {key}: the sweep {sweep.path} varies it')
        for path in sweep.configs.values():
            compose_config(path, [*common, *options, *as_options(varied)])


def _print_result(queue: TrialQueue, progress: SweepProgress) -> dict:
    path = queue.work_dir / sweep_report.JSON
    found = read_as(
        sweep_report.SweepReport, path, '; remove it, and the same command writes it'
    )
    winner = found['winner']
    if progress.console.is_terminal:
        progress.console.print(progress.table(), soft_wrap=False)
    else:
        progress.print(progress.summary())
    if winner is None:
        reasons = [t['reason'] for t in found['trials'] if t['state'] == 'fail']
        reason = reasons[0] if reasons else 'all were pruned'
        raise UserError(f'no trial came to its end: {reason}')
    print(f'winner: trial {winner["number"]}, {format_params(winner["params"])}')
    for key, value in (winner['test'] or {}).items():
        print(f'  {key} {value:.3f} on the test split')
    print(found['selection'])
    print(f'{path}, {path.with_name(sweep_report.TABLE)}')
    return found


def run_here(
    command: list[str], workers: int, work_dir: Path, update: Callable[[], None]
) -> list[str]:
    """Run workers on shared cores and GPUs, ``update`` each second; why they failed."""
    folder = work_dir / 'workers'
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f'{os.getpid()}_{i}.log' for i in range(workers)]
    started: list[subprocess.Popen] = []
    try:
        for log, env in zip(logs, environments(workers)):
            with log.open('w') as stream:
                started.append(child_processes.start(command, stream, env))
        while any(child.poll() is None for child in started):
            update()
            time.sleep(child_processes.LOOK)
    finally:
        for child in started:
            child.terminate()
        for child in started:
            child_processes.end(child)
    update()
    return [
        child_processes.last_line(log)
        for log, child in zip(logs, started)
        if child.returncode
    ]


def environments(workers: int) -> list[dict[str, str]]:
    """Variables that share the cores and GPUs out among workers."""
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
    update: Callable[[], None],
    options: Sequence[str],
) -> list[str]:
    """As :func:`run_here`, each worker a job; options are sbatch's, as of submitit."""
    submitit = slurm()
    parameters: dict[str, Any] = dict(job_name='hkd_mm_sweep', time=_MINUTES)
    for option in options:
        key, equals, value = option.partition('=')
        if not equals:
            raise UserError(f'--slurm-options {option}: write key=value')
        parameters[key] = int(value) if value.isdigit() else value
    function = submitit.helpers.CommandFunction(command)
    try:
        executor = submitit.SlurmExecutor(work_dir / 'slurm')
        executor.update_parameters(**parameters)
        jobs = [executor.submit(function) for _ in range(workers)]
    except Exception as error:  # of submitit, or sbatch refuses
        reason = ' '.join(str(error).split())
        raise UserError(f'--launcher slurm: {reason}') from error
    ids = ' '.join(job.job_id for job in jobs)
    print(f'jobs {ids}; they go on when this is ended', flush=True)
    while not all(job.done() for job in jobs):
        update()
        time.sleep(child_processes.LOOK)
    update()
    failed = [job.exception() for job in jobs]
    return [' '.join(str(error).split())[-400:] for error in failed if error]


def slurm() -> Any:
    """The package submitit, on a machine with Slurm."""
    submitit = require('submitit', '--launcher slurm', '"submitit>=1.5"')
    for name in ('sbatch', 'srun'):
        if shutil.which(name) is None:
            raise UserError(
                f'--launcher slurm: there is no {name} here; run it on a '
                'login node of the cluster, or leave --launcher out'
            )
    return submitit


def sweep_options(args: Namespace) -> list[str]:
    """Options of the command line, for every run."""
    options = list(args.cfg_options or [])
    return options + [f'data_root={args.data_root}'] * bool(args.data_root)


def sweep_folder(args: Namespace, sweep: Sweep) -> Path:
    """Work dir of a sweep, an absolute path."""
    return Path(os.path.abspath(args.work_dir or f'work_dirs/{sweep.name}'))


def work(args: Namespace) -> None:
    """Run trials until all have ended, as a worker."""
    sweep = read_sweep(args.sweep, args.trials)
    work_dir, options = sweep_folder(args, sweep), sweep_options(args)
    study = open_study(sweep, work_dir, args.storage)
    study.pruner = make_pruner(sweep)
    queue = TrialQueue(sweep, study, work_dir)
    runner = TrialRunner(queue, options)
    try:
        trial = True
        while trial:
            with ExitStack() as held:
                if trial := queue.take(held):
                    print(f'trial {trial.number}: {trial.params}', flush=True)
                    runner.run(trial)
        with locked(work_dir / 'finishing'):
            if sweep_report.is_over(queue):  # another worker was faster
                return
            if winner := queue.best():
                runner.test(winner.number, winner.params)
            sweep_report.write_report(queue, options)
    except child_processes.Interrupted as error:
        raise UserError(f'{error}; the same command goes on') from None


def make_pruner(sweep: Sweep) -> Any:
    """Make the ``optuna.pruners`` object that a sweep asks for."""
    pruners = optuna().pruners
    if sweep.pruner is None:
        return pruners.NopPruner()
    given = dict(sweep.pruner)
    kinds = dict(median=pruners.MedianPruner, hyperband=pruners.HyperbandPruner)
    try:
        return kinds[given.pop('type')](**given)
    except (TypeError, ValueError) as error:
        raise UserError(f'{sweep.path}: pruner: {error}') from None
