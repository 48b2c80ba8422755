# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A worker of a sweep: it runs trials until all have ended.

It lives as long as the trainings, and leaves them the memory: torch is
imported for the report at the end alone.
"""

import os
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError
from hkd_mm.experiments.children import Interrupted, terminated_as_exit
from hkd_mm.experiments.sweep_file import Sweep, optuna, read_sweep
from hkd_mm.experiments.sweep_report import is_over, write_report
from hkd_mm.experiments.trial_queue import TrialQueue, open_study
from hkd_mm.experiments.trial_runner import TrialRunner
from hkd_mm.io.locks import locked


def sweep_options(args: Namespace) -> list[str]:
    """Options of the command line, for every run."""
    options = list(args.cfg_options or [])
    return options + [f'data_root={args.data_root}'] * bool(args.data_root)


def sweep_folder(args: Namespace, sweep: Sweep) -> Path:
    """Work dir of a sweep, an absolute path."""
    return Path(os.path.abspath(args.work_dir or f'work_dirs/{sweep.name}'))


def main(args: Namespace) -> None:
    """Run trials until all have ended.

    Raises:
        UserError: the storage cannot be used, a training was ended by
            somebody else, or the winner cannot be tested.
    """
    sweep = read_sweep(args.sweep, args.trials)
    work_dir, options = sweep_folder(args, sweep), sweep_options(args)
    study = open_study(sweep, work_dir, args.storage)
    study.pruner = make_pruner(sweep)
    queue = TrialQueue(sweep, study, work_dir)
    runner = TrialRunner(queue, options)
    try:
        with terminated_as_exit():
            while _run_one(queue, runner):
                pass
            _finish(queue, runner)
    except Interrupted as error:
        raise UserError(f'{error}; the same command goes on') from None


def _run_one(queue: TrialQueue, runner: TrialRunner) -> bool:
    with ExitStack() as held:
        trial = queue.take(held)
        if trial is None:
            return False
        print(f'trial {trial.number}: {trial.params}', flush=True)
        runner.run(trial)
        return True


def _finish(queue: TrialQueue, runner: TrialRunner) -> None:
    with locked(queue.work_dir / 'finishing'):
        if is_over(queue):  # another worker was faster
            return
        winner = queue.best()
        if winner is not None:
            runner.test(winner.number, winner.params)
        write_report(queue, runner.options)


def make_pruner(sweep: Sweep) -> Any:
    """Make the ``optuna.pruners`` object that a sweep asks for.

    Raises:
        UserError: it does not take one of the arguments.
    """
    pruners = optuna().pruners
    if sweep.pruner is None:
        return pruners.NopPruner()
    given = dict(sweep.pruner)
    kinds = dict(median=pruners.MedianPruner, hyperband=pruners.HyperbandPruner)
    try:
        return kinds[given.pop('type')](**given)
    except (TypeError, ValueError) as error:
        raise UserError(f'{sweep.path}: pruner: {error}') from None
