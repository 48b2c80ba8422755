# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One teacher for all trials, whatever they vary."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError

from ..config.compose import compose_config, config_named
from ..run.earlier_stage import place_beside
from ..run.finished import read_finished
from . import children
from .plan import Sweep

# Only these of a trial's values ask for another teacher.
_OF_TEACHER = ('pair', 'teacher', 'student', 'teacher_config')


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
        self._found: dict[str, str | None] = {}

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
        own = [f'{k}={v}' for k, v in varied.items() if k in _OF_TEACHER]
        if f'{config} {own}' not in self._found:
            every = [f'{key}={value}' for key, value in varied.items()]
            try:
                found = self._provide(config, own, every, log)
            except children.Failed as error:
                if own:
                    raise
                raise UserError(f'no teacher: {error}') from None
            self._found[f'{config} {own}'] = found
        found = self._found[f'{config} {own}']
        return [f'model.teacher_ckpt={found}'] if found else []

    def _provide(
        self, config: str, own: list[str], every: list[str], log: Path
    ) -> str | None:
        common = self.sweep.common(self.work_dir)
        shared = [
            *(f'{key}={value}' for key, value in common.items()),
            f'seed={self.sweep.seeds[0]}',
            *self.given,
        ]
        cfg = compose_config(config, [*shared, *every])
        model = cfg.get('model') or {}
        if model.get('teacher_ckpt') or not model.get('teacher'):
            return None
        place = str(self.work_dir / 'runs' / 'of_teacher')
        children.run_child(
            [
                str(children.TOOLS / 'sweep.py'),
                str(self.sweep.path),
                '--teacher-of',
                config,
                '--work-dir',
                place,
                '--cfg-options',
                *shared,
                *own,
            ],
            log,
        )
        folder = place_beside(place, config_named(cfg, 'teacher_config'))
        finished = read_finished(folder)
        if finished is None:
            raise children.Failed(f'{folder} holds no finished run')
        return str(Path(folder) / finished['checkpoint'])


def provide(args: Namespace) -> None:
    """Train the teacher of a config, or find the one trained before.

    Args:
        args: ``teacher_of``, a distillation; ``work_dir``, beside which the
            teacher goes; ``cfg_options``.
    """
    from ..config.data_summary import resolve_class_weight, summarize_data
    from ..run.teacher_stage import provide_teacher
    from ..train import train

    cfg = compose_config(args.teacher_of, args.cfg_options)
    resolve_class_weight(cfg)
    cfg.work_dir = args.work_dir
    provide_teacher(
        cfg, summarize_data(cfg), train, cfg_options=args.cfg_options
    )
