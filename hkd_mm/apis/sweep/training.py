# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One trial: its trainings, followed epoch by epoch."""

import math
import statistics
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError

from .. import children
from ..children import Cut, Failed
from ..run.run_files import TESTED
from .files import read_json, write_json
from .plan import Sweep
from .teachers import Teachers
from .trial_queue import TrialQueue

CONSOLE = 'console.log'
RESULT = 'result.json'


class Trainings:
    """Trains and tests the nets of trials.

    Args:
        sweep: whose.
        queue: of its trials.
        options: of the command line, for every run.
    """

    def __init__(
        self, sweep: Sweep, queue: TrialQueue, options: list[str]
    ) -> None:
        self.sweep, self.queue, self.options = sweep, queue, options
        self.teachers = Teachers(sweep, queue.work_dir, options)

    def run(self, trial: Any) -> None:
        """Train a trial with every seed and tell the study what came out.

        Args:
            trial: ``optuna.Trial``, its lock held.

        Raises:
            Interrupted: a training was ended by somebody else; the trial
                stays under way and is taken up again later.
        """
        study = self.queue.study
        try:
            reports = [
                self._train(trial, seed, watched=seed == self.sweep.seeds[0])
                for seed in self.sweep.seeds
            ]
            values = [self._score(report) for report in reports]
        except Cut:
            self._note(trial, reason='pruned')
            study.tell(trial, state=_state('PRUNED'))
        except Failed as error:
            self._note(trial, reason=str(error))
            trial.set_user_attr('reason', str(error))
            study.tell(trial, state=_state('FAIL'))
        else:
            self._note(
                trial,
                values=values,
                epochs=[report.get('epochs') for report in reports],
                minutes=sum(r.get('training_minutes', 0) for r in reports),
            )
            trial.set_user_attr('values', values)
            study.tell(trial, statistics.mean(values))

    def test(self, number: int, params: dict[str, Any]) -> None:
        """Read the test split with the nets of a trial, unless that is done.

        Raises:
            UserError: it failed.
        """
        for seed in self.sweep.seeds:
            folder = self.queue.run_folder(number, seed)
            if all((folder / name).is_file() for name in TESTED):
                continue
            try:
                self._call(
                    number,
                    'test.py',
                    str(self.sweep.config(params)),
                    str(folder / 'student.pth'),
                    '--work-dir',
                    str(folder / 'test'),
                    *(w for n in TESTED for w in ('--out', str(folder / n))),
                    '--cfg-options',
                    *self._options(params, seed),
                )
            except Failed as error:
                raise UserError(
                    f'the winner, trial {number}, cannot be tested: {error}'
                ) from None

    def _train(self, trial: Any, seed: int, watched: bool) -> dict[str, Any]:
        folder = self.queue.run_folder(trial.number, seed)
        done = [folder / name for name in ('metrics.json', 'student.pth')]
        if not all(path.is_file() for path in done):
            begun = any(folder.glob('epoch_*.pth'))
            options = self._options(trial.params, seed)
            log = self.queue.folder(trial.number) / CONSOLE
            options += self.teachers.options(trial.params, log)
            follow = _Follower(trial, folder, self.sweep)
            self._call(
                trial.number,
                'train.py',
                str(self.sweep.config(trial.params)),
                *(['--resume'] if begun else []),
                '--work-dir',
                str(folder),
                '--cfg-options',
                *options,
                **(dict(enough=follow) if watched else {}),
            )
            if watched:
                follow()  # what came after the last look
        report = read_json(done[0])
        if report is None:
            raise Failed(f'{done[0]} is missing or damaged')
        return report

    def _options(self, params: dict[str, Any], seed: int) -> list[str]:
        place = self.queue.work_dir
        told = {**self.sweep.common(place), 'seed': str(seed)}
        varied = self.sweep.varied(params, place)
        return [
            *(f'{key}={value}' for key, value in told.items()),
            *self.options,
            *(f'{key}={value}' for key, value in varied.items()),
        ]

    def _call(self, number: int, tool: str, *words: str, **how) -> None:
        log = self.queue.folder(number) / CONSOLE
        children.run_child([str(children.TOOLS / tool), *words], log, **how)

    def _score(self, report: dict[str, Any]) -> float:
        best = report.get('best')
        if not best:
            raise Failed('validation chose no checkpoint')
        value = best.get(self.sweep.metric)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise Failed(f'{self.sweep.metric} is {value}, not a number')
        return float(value)

    def _note(self, trial: Any, **facts) -> None:
        """What came out, beside the trial's console output."""
        found = dict(number=trial.number, params=trial.params, **facts)
        write_json(self.queue.folder(trial.number) / RESULT, found)


class _Follower:
    """Tells the study of each new epoch; True where the pruner says enough.

    Args:
        trial: whose.
        folder: work dir of the training.
        sweep: names the metric.
    """

    def __init__(self, trial: Any, folder: Path, sweep: Sweep) -> None:
        self.trial, self.sweep = trial, sweep
        self.path = folder / 'history.json'
        stored = trial.study.get_trials(deepcopy=False)[trial.number]
        self.told = set(stored.intermediate_values)  # of before a resume

    def __call__(self) -> bool:
        new = False
        for record in read_json(self.path) or []:
            value = (record.get('val') or {}).get(self.sweep.metric)
            if record['epoch'] in self.told or value is None:
                continue
            self.trial.report(value, record['epoch'])
            self.told.add(record['epoch'])
            new = True
        return bool(self.sweep.pruner) and new and self.trial.should_prune()


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]
