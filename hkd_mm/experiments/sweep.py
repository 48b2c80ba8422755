# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Sweep settings, then test the winner once."""

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from hkd_mm.cli import INTERRUPTED
from hkd_mm.errors import UserError
from hkd_mm.experiments import children
from hkd_mm.experiments.sweep_file import Sweep, read_sweep
from hkd_mm.experiments.sweep_report import (
    JSON,
    TABLE,
    ProgressTable,
    is_over,
    listed,
)
from hkd_mm.experiments.sweep_storage import (
    check_options,
    check_settings,
    open_study,
    settings_of,
)
from hkd_mm.experiments.trial_queue import TrialQueue
from hkd_mm.experiments.trial_runner import provide, read_json
from hkd_mm.experiments.workers import (
    make_pruner,
    run_here,
    run_on_slurm,
    slurm,
    work,
)
from hkd_mm.io.locks import has_locks


def main(args: Namespace) -> None:
    """Sweep as the command line says."""
    options = list(args.cfg_options or [])
    if args.data_root:
        options.append(f'data_root={args.data_root}')
    if args.teacher_of:
        args.cfg_options = options
        provide(args)
        return
    sweep = read_sweep(args.sweep, args.trials)
    work_dir = Path(
        os.path.abspath(args.work_dir or f'work_dirs/{sweep.name}')
    )
    if args.worker:
        work(sweep, work_dir, args.storage, options)
        return
    try:
        run_sweep(
            sweep,
            work_dir,
            args.workers,
            args.storage,
            options,
            args.launcher,
            args.slurm_options,
            args.retry_failed,
        )
    except KeyboardInterrupt:
        print('interrupted; the same command goes on', file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def run_sweep(
    sweep: Sweep,
    work_dir: Path,
    workers: int = 1,
    url: str | None = None,
    options: list[str] | None = None,
    launcher: str = 'none',
    slurm_options: list[str] | None = None,
    again: bool = False,
) -> dict[str, Any]:
    """Run what is missing of a sweep, then tell the winner.

    Args:
        sweep: see :func:`.reading.read_sweep`.
        work_dir: an absolute path; trials, runs and tables go there.
        workers: trials side by side.
        url: of the storage, see :func:`.storage.open_study`.
        options: as ``--cfg-options``, for every run.
        launcher: ``none`` runs the workers here, ``slurm`` as jobs.
        slurm_options: of ``sbatch``, ``key=value``.
        again: try those trials again that failed.

    Returns:
        What ``sweep.json`` in the work dir holds.

    Raises:
        UserError: the sweep cannot be begun, goes on with other settings
            than before, or workers ended before all trials had.
    """
    options = options or []
    _check_place(work_dir)
    if launcher == 'slurm':
        slurm()
    study = open_study(sweep, work_dir, url)
    make_pruner(sweep)
    check_options(sweep, work_dir, options)
    check_settings(study, settings_of(sweep, work_dir, options), work_dir)
    queue = TrialQueue(sweep, study, work_dir)
    queue.fill(again)
    reasons: list[str] = []
    if not is_over(sweep, queue):
        command = _worker(sweep, work_dir, url, options)
        with ProgressTable(queue) as board, children.terminated_as_exit():
            if launcher == 'slurm':
                reasons = run_on_slurm(
                    command, workers, work_dir, slurm_options or [], board
                )
            else:
                reasons = run_here(command, workers, work_dir, board)
    if not is_over(sweep, queue):
        why = '; '.join(dict.fromkeys(reasons)) or 'its workers have ended'
        raise UserError(
            f'the sweep is not at its end: {why}; the same command goes on'
        )
    for reason in dict.fromkeys(reasons):
        print(f'a worker ended before the others: {reason}', flush=True)
    return _tell(queue)


def _check_place(work_dir: Path) -> None:
    if not has_locks(work_dir / 'taking'):
        raise UserError(
            f'the file system of {work_dir} has no locks, and two workers '
            'would run the same trial; give another --work-dir'
        )


def _worker(
    sweep: Sweep, work_dir: Path, url: str | None, options: list[str]
) -> list[str]:
    """Command of a worker, after the interpreter."""
    command = [
        str(children.TOOLS / 'sweep.py'),
        str(sweep.path),
        '--worker',
        '--work-dir',
        str(work_dir),
    ]
    if sweep.sampler != 'grid':
        command += ['--trials', str(sweep.trials)]
    if url:
        command += ['--storage', url]
    return [*command, *(['--cfg-options', *options] if options else [])]


def _tell(queue: TrialQueue) -> dict[str, Any]:
    """Print how it came out."""
    path = queue.work_dir / JSON
    found = read_json(path)
    winner = found['winner']
    failed = [trial for trial in found['trials'] if trial['state'] == 'fail']
    board = ProgressTable(queue)
    trials = queue.study.get_trials(deepcopy=False)
    if board.console.is_terminal:
        board.console.print(board.table(trials))
    else:
        print(board.head(trials))
    if winner is None:
        why = failed[0]['reason'] if failed else 'all were pruned'
        raise UserError(f'no trial came to its end: {why}')
    print(f'winner: trial {winner["number"]}, {listed(winner["params"])}')
    for key, value in winner['test'].items():
        print(f'  {key} {value:.3f} on the test split')
    print(found['selection'])
    print(f'{path}, {path.with_name(TABLE)}')
    return found
