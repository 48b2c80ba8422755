# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One worker: takes trials until none is left, then tests the winner."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError
from hkd_mm.file_lock import locked

from ..children import Interrupted, terminated_as_exit
from .plan import Sweep
from .report import is_over, winner_of, write_report
from .storage import open_study, optuna
from .training import Trainings
from .trial_queue import TrialQueue


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
