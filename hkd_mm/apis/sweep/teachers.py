# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One teacher for all trials, whatever they vary."""

import hashlib
from argparse import Namespace
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError

from .. import children
from .files import read_json, write_json
from .plan import Sweep

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
    from ..config.compose import compose_config
    from ..config.data_summary import resolve_data, summarize_data
    from ..run.teacher_stage import provide_teacher
    from ..train import train

    cfg = compose_config(args.teacher_of, args.cfg_options)
    found = None
    if cfg.model.get('teacher') and not cfg.model.get('teacher_ckpt'):
        resolve_data(cfg)
        cfg.work_dir = args.work_dir
        found = provide_teacher(
            cfg, summarize_data(cfg), train, cfg_options=args.cfg_options
        )
    write_json(Path(args.work_dir) / FOUND, dict(checkpoint=found))
