# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One trial: its trainings, followed epoch by epoch, and its teacher.

Workers live as long as the trainings, and a light one leaves them the memory.
"""

import hashlib
import json
import math
import os
import statistics
from argparse import Namespace
from pathlib import Path
from typing import Any

from hkd_mm.engine.run_files import TESTED
from hkd_mm.errors import UserError
from hkd_mm.experiments import children
from hkd_mm.experiments.children import Cut, Failed
from hkd_mm.experiments.sweep_file import Sweep
from hkd_mm.experiments.trial_queue import TrialQueue


def write_text(path: Path, text: str) -> None:
    """Put a file there at once; the folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'.{path.name}.{os.getpid()}.part')
    with aside.open('w', encoding='utf-8') as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """As :func:`write_text`; what JSON does not know becomes text."""
    write_text(path, json.dumps(value, indent=1, default=str) + '\n')


def read_json(path: Path) -> Any:
    """What a file holds, or None where there is none or half of one."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None


FOUND = 'teacher.json'
# Only these of a trial's values ask for another teacher.
_OF_TEACHER = ('pair', 'teacher', 'student', 'teacher_config')
_CHECKPOINT = 'model.teacher_ckpt'


class Teachers:
    """Teachers of trials, trained once beside the runs where none is given.

    ``train.py`` hands options such as the learning rate on to a teacher that
    it trains, and each trial would want another one. Here the teacher has the
    options that all trials share.

    Args:
        sweep: whose.
        work_dir: of the sweep.
        options: of the command line.
    """

    def __init__(
        self, sweep: Sweep, work_dir: Path, options: list[str]
    ) -> None:
        self.sweep, self.work_dir, self.given = sweep, work_dir, options

    def options(self, params: dict[str, Any], log: Path) -> list[str]:
        """What a trial has to be told of its teacher; waits for that one.

        Args:
            params: values of the trial.
            log: for what the training prints.

        Raises:
            Failed: no teacher of the trial's own choice came about.
            UserError: no teacher of all trials came about.
        """
        config = str(self.sweep.config(params))
        varied = self.sweep.varied(params, self.work_dir)
        common = self.sweep.common(self.work_dir)
        given = [option.partition('=')[0] for option in self.given]
        if _CHECKPOINT in {*varied, *common, *given}:
            return []
        own = [f'{k}={v}' for k, v in varied.items() if k in _OF_TEACHER]
        shared = [f'{key}={value}' for key, value in common.items()]
        told = [*shared, f'seed={self.sweep.seeds[0]}', *self.given, *own]
        name = hashlib.sha256(repr((config, told)).encode()).hexdigest()[:8]
        place = self.work_dir / 'runs' / f'teacher_{name}'
        found = read_json(place / FOUND)
        if found is None or not Path(found['checkpoint'] or '/').exists():
            try:
                found = self._provide(config, place, told, log)
            except children.Failed as error:
                if own:
                    raise
                raise UserError(f'no teacher: {error}') from None
        path = found['checkpoint']
        return [f'{_CHECKPOINT}={path}'] if path else []

    def _provide(
        self, config: str, place: Path, told: list[str], log: Path
    ) -> dict[str, str | None]:
        children.run_child(
            [
                str(children.TOOLS / 'sweep.py'),
                str(self.sweep.path),
                '--teacher-of',
                config,
                '--work-dir',
                str(place),
                '--cfg-options',
                *told,
            ],
            log,
        )
        return read_json(place / FOUND)


def provide(args: Namespace) -> None:
    """Train the teacher of a config, or find the one trained before.

    Leaves ``teacher.json`` with the path of its ``checkpoint``, None where
    the config has no teacher or names its checkpoint itself.

    Args:
        args: ``teacher_of``, the config; ``work_dir``, beside which the
            teacher goes; ``cfg_options``.
    """
    from hkd_mm.config.compose import compose_config
    from hkd_mm.config.data_summary import resolve_data, summarize_data
    from hkd_mm.training.stages import provide_teacher
    from hkd_mm.training.trainer import train

    cfg = compose_config(args.teacher_of, args.cfg_options)
    found = None
    if cfg.model.get('teacher') and not cfg.model.get('teacher_ckpt'):
        resolve_data(cfg)
        cfg.work_dir = args.work_dir
        found = provide_teacher(
            cfg, summarize_data(cfg), train, cfg_options=args.cfg_options
        )
    write_json(Path(args.work_dir) / FOUND, dict(checkpoint=found))


CONSOLE = 'console.log'
RESULT = 'result.json'


class Trainings:
    """Trains and tests the networks of trials.

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
        """Read the test split with the networks of a trial, unless that is
        done.

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
