# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The teacher of a distillation: trained, resumed or taken as it lies."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from hkd_mm.errors import UserError

from .config import load_config, teacher_config_path
from .data_summary import DataSummary, check_classes
from .finished import contains, fingerprint, read_finished
from .nets import check_same_net

_RULE = '=' * 72


def provide_teacher(
    cfg: Config,
    summary: DataSummary,
    train: Callable[..., dict[str, Any]],
    amp: bool = False,
    launcher: str = 'none',
    cfg_options: list[str] | dict[str, Any] | None = None,
) -> str:
    """A checkpoint for ``model.teacher_ckpt``, by training if need be.

    The teacher's config is ``teacher_config``, its work dir lies beside the
    student's and is called like that config. A finished run there is used
    again, an unfinished one is resumed, otherwise training starts. The
    options of the command line hold for it as well, but for ``model.*``,
    ``teacher``, ``student`` and those that its config does not know.

    Args:
        cfg: the distillation, with ``work_dir`` set.
        summary: its data.
        train: :func:`hkd_mm.apis.train.train`.
        amp: as of the distillation.
        launcher: as of the distillation.
        cfg_options: as of the distillation.

    Returns:
        Path of the teacher's checkpoint.

    Raises:
        UserError: the teacher lying there has learned from another split,
            other classes or with other settings.
    """
    path = teacher_config_path(cfg)
    work_dir = os.path.join(
        os.path.dirname(os.path.normpath(cfg.work_dir)), Path(path).stem
    )
    if os.path.abspath(work_dir) == os.path.abspath(cfg.work_dir):
        raise UserError(
            f'the teacher of {path} would be trained in the work '
            f'dir of the student, {work_dir}; give another '
            '--work-dir'
        )
    options = _teacher_options(path, cfg_options)
    check_same_net(
        cfg.model.teacher,
        load_config(path, options, read_data=False).model,
        path,
    )
    finished = read_finished(work_dir)
    if finished is not None:
        _check_finished(finished, work_dir, path, options, summary)
        _say(
            f'TEACHER: using the one trained before, '
            f'{work_dir}/{finished["checkpoint"]}'
        )
        return os.path.join(work_dir, finished['checkpoint'])
    begun = any(Path(work_dir).glob('epoch_*.pth'))
    _say(
        f'TEACHER: model.teacher_ckpt is None, so the teacher is '
        f'{"resumed" if begun else "trained"} first with {path} in '
        f'{work_dir}; the student follows'
    )
    if begun:
        _check_begun(work_dir, summary)
    finished = train(
        path,
        work_dir=work_dir,
        resume='auto' if begun else None,
        amp=amp,
        cfg_options=options,
        launcher=launcher,
    )
    if finished['split_hash'] != summary.split_hash:
        raise UserError(_other_split(work_dir))
    _say(
        f'TEACHER: done, {work_dir}/{finished["checkpoint"]}; now the student'
    )
    return os.path.join(work_dir, finished['checkpoint'])


def check_given_teacher(path: str, summary: DataSummary) -> None:
    """Say loudly when a given teacher may know the student's test images.

    Args:
        path: ``model.teacher_ckpt``.
        summary: the student's data.

    Raises:
        UserError: the checkpoint cannot be read safely, or was trained for
            other classes.
    """
    from hkd_mm.engine.checkpoint import safe_load

    meta = safe_load(path).get('meta') or {}
    check_classes(meta, summary.classes, path)
    split = meta.get('split_hash')
    if split and summary.split_hash and split != summary.split_hash:
        _say(
            f'WARNING: teacher {path} was trained on another split '
            f'({split[:8]}) than the one in use '
            f'({summary.split_hash[:8]}): it may have seen the test images'
        )


def _teacher_options(path: str, options: list[str] | dict[str, Any] | None):
    """The options that hold for the teacher's config too."""
    if not options:
        return None
    kept: Any = {} if isinstance(options, dict) else []
    for option in options:
        key = option.partition('=')[0].strip()
        if key.split('.')[0] in (
            'model',
            'teacher',
            'student',
            'teacher_config',
            'work_dir',
            'load_from',
            'resume',
        ):
            continue
        one = {key: options[key]} if isinstance(options, dict) else [option]
        try:
            load_config(path, one, read_data=False)
        except UserError as error:
            if 'the config has no' not in str(error):
                raise
            _say(f'TEACHER: {key} is left out, its config has no such key')
            continue
        kept.update(one) if isinstance(options, dict) else kept.append(option)
    return kept


def _check_finished(
    finished: dict[str, Any],
    work_dir: str,
    path: str,
    options,
    summary: DataSummary,
) -> None:
    if finished['split_hash'] != summary.split_hash:
        raise UserError(_other_split(work_dir))
    if finished['classes'] != list(summary.classes):
        raise UserError(
            f'the teacher in {work_dir} was trained for other '
            f'classes ({", ".join(finished["classes"])}); remove '
            'that folder, or give another --work-dir'
        )
    wanted = fingerprint(load_config(path, options))
    wanted['optim_wrapper'].pop('type', None)  # set by --amp
    differing = [
        key
        for key, value in wanted.items()
        if not contains(finished['config'].get(key), value)
    ]
    if differing:
        raise UserError(
            f'the teacher in {work_dir} was trained with another '
            f'{" and ".join(differing)}; use it all the same with '
            f'--cfg-options model.teacher_ckpt={work_dir}/'
            f'{finished["checkpoint"]}, or remove that folder'
        )


def _check_begun(work_dir: str, summary: DataSummary) -> None:
    from hkd_mm.engine.atomic_backend import latest_intact_checkpoint
    from hkd_mm.engine.checkpoint import safe_load

    path = latest_intact_checkpoint(work_dir)
    meta = (safe_load(path).get('meta') or {}) if path else {}
    if meta.get('split_hash', summary.split_hash) != summary.split_hash:
        raise UserError(_other_split(work_dir))


def _other_split(work_dir: str) -> str:
    return (
        f'the teacher in {work_dir} was trained on another split than '
        'the student has, so it may know the test images; remove that '
        'folder, or give another --work-dir'
    )


def _say(line: str) -> None:
    from mmengine.dist import is_main_process

    if is_main_process():
        print(f'{_RULE}\n{line}\n{_RULE}', flush=True)
