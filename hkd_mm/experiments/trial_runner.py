# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One trial: its teacher, and its trainings, followed epoch by epoch."""

import hashlib
import statistics
from argparse import Namespace
from pathlib import Path
from typing import Any, Literal

from hkd_mm.errors import UserError
from hkd_mm.experiments import child_processes, run_folders
from hkd_mm.experiments.child_processes import ChildStopped, Failed
from hkd_mm.experiments.sweep_file import Sweep, optuna
from hkd_mm.experiments.trial_queue import TrialQueue
from hkd_mm.io.schema import read_as

RESULT = 'result.json'
TEACHER = 'teacher.json'
_Teacher = dict[Literal['checkpoint'], str | None]
_CHECKPOINT = 'model.teacher_ckpt'
# Only these of a trial's values ask for another teacher.
_OF_TEACHER = ('pair', 'teacher', 'student', 'teacher_config')


class TrialRunner:
    """Train and test the networks of trials."""

    def __init__(self, queue: TrialQueue, options: list[str]) -> None:
        self.queue, self.options, self.sweep = queue, options, queue.sweep

    def run(self, trial: Any) -> None:
        """Train a trial with every seed; one ``Interrupted`` stays under way."""
        study, states = self.queue.study, optuna().trial.TrialState
        try:
            reports = [self._train(trial, seed) for seed in self.sweep.seeds]
            values = [self._score(report) for report in reports]
        except ChildStopped:
            self._write_result(trial, reason='pruned')
            study.tell(trial, state=states.PRUNED)
        except Failed as error:
            self._write_result(trial, reason=str(error))
            trial.set_user_attr('reason', str(error))
            study.tell(trial, state=states.FAIL)
        else:
            self._write_result(
                trial,
                values=values,
                epochs=[report.get('epochs') for report in reports],
                minutes=sum(report['training_minutes'] for report in reports),
            )
            trial.set_user_attr('values', values)
            study.tell(trial, statistics.mean(values))

    def test(self, number: int, params: dict[str, Any]) -> None:
        for seed in self.sweep.seeds:
            folder = self.queue.run_folder(number, seed)
            if run_folders.has_files(folder, run_folders.TESTED):
                continue
            try:
                child_processes.test(
                    self.sweep.config_of(params),
                    folder,
                    self._options(params, seed),
                    self.queue.folder(number) / run_folders.CONSOLE,
                )
            except Failed as error:
                raise UserError(
                    f'the winner, trial {number}, cannot be tested: {error}'
                ) from None

    def _train(self, trial: Any, seed: int) -> run_folders.RunReport:
        folder = self.queue.run_folder(trial.number, seed)
        if not run_folders.is_trained(folder):
            log = self.queue.folder(trial.number) / run_folders.CONSOLE
            options = self._options(trial.params, seed)
            options += teacher_option(
                self.sweep, self.queue.work_dir, self.options, trial.params, log
            )
            config = self.sweep.config_of(trial.params)
            if seed == self.sweep.seeds[0]:
                follower = _Follower(trial, folder, self.sweep)
                child_processes.train(
                    config, folder, options, log, should_stop=follower
                )
                follower()  # for what came after the last look
            else:
                child_processes.train(config, folder, options, log)
        try:
            return run_folders.read_report(folder / 'metrics.json')
        except UserError as error:
            raise Failed(str(error)) from None

    def _options(self, params: dict[str, Any], seed: int) -> list[str]:
        work_dir = self.queue.work_dir
        common = {**self.sweep.common(work_dir), 'seed': str(seed)}
        varied = self.sweep.varied(params, work_dir)
        return [*as_options(common), *self.options, *as_options(varied)]

    def _score(self, report: run_folders.RunReport) -> float:
        best = report.get('best')
        if not best:
            raise Failed('validation chose no checkpoint')
        value = run_folders.figure(best, self.sweep.metric)
        if value != value:
            raise Failed(f'{self.sweep.metric} is no number on validation')
        return float(value)

    def _write_result(self, trial: Any, **facts) -> None:
        found = dict(number=trial.number, params=trial.params, **facts)
        run_folders.write_json(self.queue.folder(trial.number) / RESULT, found)


class _Follower:
    """Report each new epoch to Optuna; True where the pruner stops it."""

    def __init__(self, trial: Any, folder: Path, sweep: Sweep) -> None:
        self.trial, self.folder, self.sweep = trial, folder, sweep
        stored = trial.study.get_trials(deepcopy=False)[trial.number]
        self.reported = set(stored.intermediate_values)  # before a resume

    def __call__(self) -> bool:
        new = False
        for record in run_folders.read_history(self.folder):
            value = record.get('val', {}).get(self.sweep.metric)
            if record['epoch'] in self.reported or value is None:
                continue
            self.trial.report(value, record['epoch'])
            self.reported.add(record['epoch'])
            new = True
        return bool(self.sweep.pruner) and new and self.trial.should_prune()


def teacher_option(
    sweep: Sweep, work_dir: Path, given: list[str], params: dict[str, Any], log: Path
) -> list[str]:
    """Name the teacher of a trial, trained beside the runs, unless one is ``given``.

    It has the options that all trials share: ``train.py`` would pass on, say, the rate.
    """
    varied, common = sweep.varied(params, work_dir), sweep.common(work_dir)
    names = [option.partition('=')[0] for option in given]
    if _CHECKPOINT in {*varied, *common, *names}:
        return []
    own = as_options({k: varied[k] for k in varied if k in _OF_TEACHER})
    options = [*as_options(common), f'seed={sweep.seeds[0]}', *given, *own]
    config = str(sweep.config_of(params))
    key = hashlib.sha256(repr((config, options)).encode()).hexdigest()[:8]
    folder = work_dir / 'runs' / f'teacher_{key}'
    found = run_folders.read_if_whole(_Teacher, folder / TEACHER)
    if not found or not Path(found['checkpoint'] or '/').exists():
        arguments = [str(sweep.path), '--teacher-of', config, '--work-dir', str(folder)]
        try:
            child_processes.run_tool('sweep.py', arguments, log, options)
        except Failed as error:
            if own:
                raise  # of this trial alone
            raise UserError(f'no teacher: {error}') from None
        found = read_as(_Teacher, folder / TEACHER)
    path = found.get('checkpoint')
    return [f'{_CHECKPOINT}={path}'] if path else []


def as_options(values: dict[str, str]) -> list[str]:
    """Options as ``--cfg-options`` takes them."""
    return [f'{key}={value}' for key, value in values.items()]


def provide_teacher(args: Namespace) -> None:
    """Train the teacher of a config, or find it; ``teacher.json`` has its path."""
    from hkd_mm.config.compose import compose_config
    from hkd_mm.config.data_summary import resolve_data, summarize_data
    from hkd_mm.training import stages
    from hkd_mm.training.trainer import train

    options = list(args.cfg_options or [])
    cfg = compose_config(args.teacher_of, options)
    found = None
    if cfg.model.get('teacher') and not cfg.model.get('teacher_ckpt'):
        resolve_data(cfg)
        cfg.work_dir = args.work_dir
        found = stages.provide_teacher(
            cfg, summarize_data(cfg), train, cfg_options=options
        )
    run_folders.write_json(Path(args.work_dir) / TEACHER, dict(checkpoint=found))
