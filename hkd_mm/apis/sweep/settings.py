# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What has to stay as it is while a sweep goes on."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError

from ..config.compose import compose_config
from .plan import Sweep
from .space import corners

_SETTINGS = 'settings'


def settings_of(
    sweep: Sweep, work_dir: Path, options: list[str]
) -> dict[str, str]:
    """What has to stay as it is while a sweep goes on: name -> text.

    The numbers of a grid may become more, ``trials`` too.

    Args:
        sweep: whose.
        work_dir: of the sweep.
        options: of the command line.

    Raises:
        UserError: a config cannot be read.
    """
    common = [f'{k}={v}' for k, v in sweep.common(work_dir).items()]
    found = dict(
        space=json.dumps(sorted(sweep.space)),
        options=json.dumps(sweep.options, sort_keys=True, default=str),
        cfg_options=json.dumps(without_places(options)),
        sampler=sweep.sampler,
        metric=sweep.metric,
        seeds=json.dumps(sweep.seeds),
    )
    for name, path in sweep.configs.items():
        cfg = compose_config(path, [*common, *options])
        plain = cfg.to_dict()
        for place in ('data_root', 'work_dir'):
            plain.pop(place, None)
        text = json.dumps(plain, sort_keys=True, default=str)
        for place, mark in (
            (cfg.get('data_root'), '{data_root}'),
            (os.path.abspath(work_dir), '{work_dir}'),
            (work_dir, '{work_dir}'),
        ):
            text = text.replace(str(place), mark)
        key = f'config {path.name}' + (f' of {name}' if name else '')
        found[key] = hashlib.sha256(text.encode()).hexdigest()
    return found


def check_settings(study, settings: dict[str, str], work_dir: Path) -> None:
    """Refuse to mix trials of several settings in one sweep.

    Raises:
        UserError: the sweep was begun with others.
    """
    before: dict[str, Any] | None = study.user_attrs.get(_SETTINGS)
    if before is None:
        study.set_user_attr(_SETTINGS, settings)
        return
    for name in dict.fromkeys((*settings, *before)):
        if settings.get(name) != before.get(name):
            raise UserError(
                f'{name} is other than when the sweep in {work_dir} began; '
                'put it back, or give another --work-dir'
            )


def without_places(options: list[str]) -> list[str]:
    """Options without the folders of this machine."""
    return [o for o in options if not o.startswith('data_root=')]


def check_options(sweep: Sweep, work_dir: Path, options: list[str]) -> None:
    """Try the options of a trial on every config before any is trained.

    Raises:
        UserError: a config does not take one of them.
    """
    fixed = {option.partition('=')[0] for option in options}
    common = [f'{k}={v}' for k, v in sweep.common(work_dir).items()]
    for params in corners(sweep.space):
        varied = sweep.varied(params, work_dir)
        for key in sorted(varied.keys() & fixed):
            raise UserError(
                f'--cfg-options {key}: the sweep {sweep.path} varies it'
            )
        for path in sweep.configs.values():
            every = [f'{key}={value}' for key, value in varied.items()]
            compose_config(path, [*common, *options, *every])
