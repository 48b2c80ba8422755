# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Trials in Optuna's storage; no two workers ever take the same.

Optuna notices killed workers by heartbeats, in databases only and after a
minute; its journal has none. Here a trial belongs to whoever holds the lock of
its folder, of which the kernel lets go at once when the worker ends.
"""

import os
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import FiniteFloat

from hkd_mm.errors import UserError
from hkd_mm.experiments.sweep_file import (
    Sweep,
    Value,
    as_key,
    distribution,
    grid_points,
    optuna,
)
from hkd_mm.io.locks import locked
from hkd_mm.io.schema import validate

JOURNAL = 'journal.log'
IDENTITY = 'sweep_id'
_REMEDY = '; mend it, or give another --work-dir'
PAUSE = 2.0  # seconds between two looks for a trial


class TrialQueue:
    """The trials of a sweep, taken one by one under a lock."""

    def __init__(self, sweep: Sweep, study: Any, work_dir: Path) -> None:
        self.sweep, self.study, self.work_dir = sweep, study, work_dir
        self.grid = sweep.sampler == 'grid'
        self.distributions = {
            name: distribution(entry, self.grid) for name, entry in sweep.space.items()
        }

    @property
    def trials(self) -> list:
        return self.study.get_trials(deepcopy=False)

    def folder(self, number: int) -> Path:
        return self.work_dir / 'trials' / f'{number:04d}'

    def run_folder(self, number: int, seed: int) -> Path:
        return self.work_dir / 'runs' / f'{number:04d}_seed{seed}'

    def fill(self, retry_failed: bool = False) -> None:
        """Enqueue the points of the grid, and the values of failed trials again."""
        with self._taking():
            trials = self.trials
            self._check_space(trials)
            known = {as_key(params_of(t)) for t in trials}
            alive = {as_key(params_of(t)) for t in trials if t.state.name != 'FAIL'}
            wanted = [params_of(t) for t in trials] if retry_failed else []
            failed = {as_key(p): p for p in wanted if as_key(p) not in alive}
            points = grid_points(self.sweep) if self.grid else []
            new = [point for point in points if as_key(point) not in known]
            for params in (*failed.values(), *new):
                self.study.enqueue_trial(params)

    def take(self, held: ExitStack) -> Any:
        """Wait for a trial with all of its values, None when all have ended.

        ``held`` gets the lock of its folder.
        """
        while True:
            with self._taking():
                trial = self._orphan(held) or self._new(held)
            if trial is not None or not self.is_incomplete():
                return trial
            time.sleep(PAUSE)

    def is_incomplete(self) -> bool:
        trials = self.trials
        return self._has_room(trials) or any(
            not trial.state.is_finished() for trial in trials
        )

    def best(self) -> Any:
        """The best that was completed; of equals, unlike Optuna's, the earlier."""
        sign = 1 if self.sweep.maximised else -1
        done = [t for t in self.trials if t.state.name == 'COMPLETE']
        return max(done, key=lambda t: sign * t.value, default=None)

    def _taking(self):
        return locked(self.work_dir / 'taking')

    def _has_room(self, trials: list) -> bool:
        return not self.grid and len(trials) < self.sweep.trials

    def _orphan(self, held: ExitStack) -> Any:
        for trial in self.trials:
            if trial.state.name != 'RUNNING':
                continue
            with ExitStack() as stack:
                if not self._hold(trial.number, stack):
                    continue
                # its owner may have ended it and let go since the look above
                if self.trials[trial.number].state.is_finished():
                    continue
                held.enter_context(stack.pop_all())
            found = optuna().Trial(self.study, trial._trial_id)
            for name, values in self.distributions.items():
                found._suggest(name, values)  # those not yet stored
            return found
        return None

    def _new(self, held: ExitStack) -> Any:
        trials = self.trials
        waiting = any(trial.state.name == 'WAITING' for trial in trials)
        if not waiting and not self._has_room(trials):
            return None
        self.study.sampler = self._sampler(len(trials))
        trial = self.study.ask(self.distributions)
        if not self._hold(trial.number, held):
            raise UserError(
                f'{self.folder(trial.number)} is in use by another sweep; '
                'give another --work-dir'
            )
        return trial

    def _hold(self, number: int, held: ExitStack) -> bool:
        return held.enter_context(locked(self.folder(number), wait=False))

    def _sampler(self, drawn: int) -> Any:
        """Each trial draws from a seed of its own, whichever worker asks."""
        samplers = optuna().samplers
        # a sum would be the same for the next trial of the seed before
        pair = np.random.SeedSequence((self.sweep.sampler_seed, drawn))
        seed = int(pair.generate_state(1)[0])
        if self.sweep.sampler == 'tpe':
            return samplers.TPESampler(seed=seed, constant_liar=True)
        return samplers.RandomSampler(seed=seed)

    def _check_space(self, trials: list) -> None:
        """Numbers may become more; Optuna takes no change of other lists."""
        check = optuna().distributions.check_distribution_compatibility
        for trial in trials:
            for name, before in trial.distributions.items():
                try:
                    check(before, self.distributions.get(name))
                except ValueError:
                    raise UserError(
                        f'{self.sweep.path}: space[{name!r}] does not go with the '
                        'trials before; put it back, or give another --work-dir'
                    ) from None


def params_of(trial: Any) -> dict[str, Any]:
    """The values of a trial, also of one that waits or has lost its worker."""
    # Optuna's name for the values of an enqueued trial
    return {**trial.system_attrs.get('fixed_params', {}), **trial.params}


def open_study(sweep: Sweep, work_dir: Path, url: str | None = None) -> Any:
    """Open or make the ``optuna.Study``: in the journal, or at ``sqlite:///FILE``."""
    module, place = optuna(), url or work_dir / JOURNAL
    try:
        with locked(work_dir / 'opening'):
            study = module.create_study(
                storage=_storage(module, work_dir, url),
                study_name=sweep.name,
                direction='maximize' if sweep.maximised else 'minimize',
                load_if_exists=True,
            )
            path = work_dir / IDENTITY
            here = path.read_text().strip() if path.is_file() else None
            stored = study.user_attrs.get(IDENTITY)
            if here is None and not study.trials:  # new, or killed between the two
                here = stored = stored or uuid.uuid4().hex
                study.set_user_attr(IDENTITY, stored)
                path.write_text(stored + '\n')
            if here != stored:
                raise UserError(
                    f'the storage and {work_dir} do not belong together: the sweep '
                    f'{study.study_name} was begun with another --work-dir or another '
                    '--storage'
                )
            _check_trials(study, str(place))
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:  # of any database driver
        reason = str(error).strip().split('\n')[0]
        raise UserError(
            f'{place} cannot be opened: {type(error).__name__}: {reason}{_REMEDY}'
        ) from error
    return study


def _storage(module, work_dir: Path, url: str | None) -> Any:
    if url is not None:
        # several workers of one SQLite file wait for each other
        patience = dict(connect_args=dict(timeout=60))
        return module.storages.RDBStorage(
            url, engine_kwargs=patience if url.startswith('sqlite') else None
        )
    path = work_dir / JOURNAL
    if path.exists() and not path.is_file():
        raise UserError(f'{path} is no file{_REMEDY}')
    journal = module.storages.journal
    return module.storages.JournalStorage(
        journal.JournalFileBackend(str(path), lock_obj=KernelLock(path))
    )


class KernelLock:
    """One writer of the journal, freed by the kernel; half a line is cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()

    def acquire(self) -> bool:
        self._stack.enter_context(locked(self.path.with_suffix('.lock')))
        with self.path.open('rb+') as stream:
            if stream.seek(0, os.SEEK_END):
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b'\n':
                    stream.seek(0)
                    stream.truncate(stream.read().rfind(b'\n') + 1)
        return True

    def release(self) -> None:
        self._stack.close()


def _check_trials(study: Any, place: str) -> None:
    """Refuse what no sweep has stored."""
    assert study.direction  # raises where there are several
    for number, trial in enumerate(study.get_trials(deepcopy=False)):
        if trial.number != number:
            raise ValueError(f'trial {number} is missing')
        value = [trial.value] if trial.state.name == 'COMPLETE' else []
        for kind, found in (
            (list[FiniteFloat], value),
            (dict[str, Value], params_of(trial)),
            (dict[int, float], trial.intermediate_values),
        ):
            validate(kind, found, f'{place}, trial {number}', _REMEDY)
