# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Which trial a worker takes next; no two workers ever take the same."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.experiments.search_space import as_key, distributions, grid_points
from hkd_mm.experiments.sweep_file import Sweep
from hkd_mm.experiments.sweep_storage import optuna
from hkd_mm.io.locks import locked

PAUSE = 2.0  # seconds between two looks at what the others do
_FIXED = 'fixed_params'  # Optuna's name for the values of a waiting trial


class TrialQueue:
    """The trials of a sweep, taken one by one under a lock.

    A trial is run by whoever holds the lock of its folder. One that is under
    way while its lock is free belonged to a worker that was killed, and is
    taken up again with the same values.

    Args:
        sweep: whose.
        study: ``optuna.Study``, see :func:`.storage.open_study`.
        work_dir: of the sweep.
    """

    def __init__(self, sweep: Sweep, study: Any, work_dir: Path) -> None:
        self.sweep, self.study, self.work_dir = sweep, study, work_dir
        self.grid = sweep.sampler == 'grid'
        self.distributions = distributions(sweep.space, self.grid)

    def folder(self, number: int) -> Path:
        """Of a trial: its lock and what its processes print."""
        return self.work_dir / 'trials' / f'{number:04d}'

    def run_folder(self, number: int, seed: int) -> Path:
        """Work dir of a training; all lie side by side, with the teacher."""
        return self.work_dir / 'runs' / f'{number:04d}_seed{seed}'

    def fill(self, again: bool = False) -> None:
        """Write down what is to be run: the grid, and failed trials.

        Args:
            again: try those again that failed.

        Raises:
            UserError: the space does not go with the trials before.
        """
        with self._taking():
            trials = self.study.get_trials(deepcopy=False)
            self._check_space(trials)
            alive = {values_of(t) for t in trials if t.state.name != 'FAIL'}
            failed = {values_of(t): t for t in trials} if again else {}
            wanted = [
                params_of(t) for v, t in failed.items() if v not in alive
            ]
            known = alive | {values_of(t) for t in trials}
            if self.grid:
                wanted += [
                    point
                    for point in grid_points(self.sweep.space)
                    if as_key(point) not in known
                ]
            for params in wanted:
                self.study.enqueue_trial(params)

    def take(self, held: ExitStack) -> Any:
        """Wait for a trial.

        Args:
            held: gets the lock of the trial's folder.

        Returns:
            An ``optuna.Trial`` with all of its values, or None when all
            trials have come to an end.
        """
        while True:
            with self._taking():
                trial = self._orphan(held) or self._new(held)
            if trial is not None or not self.unfinished():
                return trial
            time.sleep(PAUSE)

    def unfinished(self) -> bool:
        """Whether some trial has not come to an end."""
        trials = self.study.get_trials(deepcopy=False)
        return self._room(trials) or any(
            not trial.state.is_finished() for trial in trials
        )

    def _taking(self):
        return locked(self.work_dir / 'taking')

    def _room(self, trials: list) -> bool:
        return not self.grid and len(trials) < self.sweep.trials

    def _orphan(self, held: ExitStack) -> Any:
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.name != 'RUNNING':
                continue
            with ExitStack() as stack:
                if not self._hold(trial.number, stack):
                    continue
                # its owner may have told and let go since the look above
                now = self.study.get_trials(deepcopy=False)[trial.number]
                if now.state.is_finished():
                    continue
                held.enter_context(stack.pop_all())
            found = optuna().Trial(self.study, trial._trial_id)
            return self._with_values(found)
        return None

    def _new(self, held: ExitStack) -> Any:
        trials = self.study.get_trials(deepcopy=False)
        waiting = any(trial.state.name == 'WAITING' for trial in trials)
        if not waiting and not self._room(trials):
            return None
        self._use_sampler(len(trials))
        trial = self.study.ask()
        if not self._hold(trial.number, held):
            raise UserError(
                f'{self.folder(trial.number)} is in use by another sweep; '
                'give another --work-dir'
            )
        return self._with_values(trial)

    def _hold(self, number: int, held: ExitStack) -> bool:
        with ExitStack() as stack:
            folder = self.folder(number)
            if not stack.enter_context(locked(folder, wait=False)):
                return False
            held.enter_context(stack.pop_all())
            return True

    def _use_sampler(self, drawn: int) -> None:
        """Each trial draws from a seed of its own, whichever worker asks."""
        samplers = optuna().samplers
        # a sum would be the same for the next trial of the seed before
        pair = np.random.SeedSequence((self.sweep.sampler_seed, drawn))
        seed = int(pair.generate_state(1)[0])
        if self.sweep.sampler == 'tpe':
            self.study.sampler = samplers.TPESampler(
                seed=seed, constant_liar=True
            )
        else:
            self.study.sampler = samplers.RandomSampler(seed=seed)

    def _with_values(self, trial: Any) -> Any:
        for name, distribution in self.distributions.items():
            suggest(trial, name, distribution)
        return trial

    def _check_space(self, trials: list) -> None:
        """Numbers may become more; Optuna takes no change of other lists."""
        check = optuna().distributions.check_distribution_compatibility
        for trial in trials:
            for name, before in trial.distributions.items():
                try:
                    check(before, self.distributions[name])
                except ValueError:
                    raise UserError(
                        f'{self.sweep.path}: space[{name!r}] does not go '
                        'with the trials before; put it back, or give '
                        'another --work-dir'
                    ) from None


def suggest(trial: Any, name: str, distribution: Any) -> Any:
    """A value of a trial: the one it has, or else a new one."""
    kind = type(distribution).__name__
    if kind == 'CategoricalDistribution':
        return trial.suggest_categorical(name, distribution.choices)
    how = trial.suggest_int if kind.startswith('Int') else trial.suggest_float
    return how(
        name,
        distribution.low,
        distribution.high,
        log=distribution.log,
        step=distribution.step,
    )


def values_of(trial: Any) -> str:
    """One text for the values of a trial, also of a waiting one."""
    return as_key(params_of(trial))


def params_of(trial: Any) -> dict[str, Any]:
    """The values of a trial, also of a waiting one.

    A worker that is killed leaves a part of them as parameters.
    """
    return {**trial.system_attrs.get(_FIXED, {}), **trial.params}
