# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The teacher of a distillation: trained, resumed or taken as it lies."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from hkd_mm.errors import UserError
from hkd_mm.file_lock import as_rank_0, locked_by_all

from .config import load_config, teacher_config_path
from .data_summary import DataSummary, check_classes, summarize_data
from .distiller_check import check_distiller
from .finished import contains, fingerprint, read_finished
from .nets import check_same_net
from .runtime import make_work_dir
from .teacher_options import teacher_options

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
    again, one that another process trains is waited for, an unfinished one
    is resumed, otherwise training starts. What it shares with the student is
    told in :func:`hkd_mm.apis.teacher_options.teacher_options`.

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
            other classes or with other settings, the one to train would, or
            the distiller cannot be built.
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
    check_distiller(cfg)
    options, lines = teacher_options(cfg, path, cfg_options)
    for line in lines:
        _say(f'TEACHER: {line}')
    teacher = load_config(path, options, read_data=False)
    check_same_net(cfg.model.teacher, teacher.model, path)

    def take() -> str | None:
        finished = as_rank_0(read_finished(work_dir))
        if finished is None:
            return None
        _check_finished(finished, work_dir, path, options, summary)
        found = os.path.join(work_dir, finished['checkpoint'])
        _say(f'TEACHER: using the one trained before, {found}')
        return found

    found = take()
    if found:
        return found
    _check_data(teacher, path, summary)
    make_work_dir(work_dir)
    waiting = (
        f'TEACHER: waiting for the teacher that another process trains in '
        f'{work_dir}'
    )
    with locked_by_all(Path(work_dir), waiting):
        # the other process may have come to the end meanwhile
        return take() or _train(
            path, work_dir, train, summary, amp, launcher, options
        )


def _train(
    path: str,
    work_dir: str,
    train: Callable[..., dict[str, Any]],
    summary: DataSummary,
    amp: bool,
    launcher: str,
    options: list[str] | dict[str, Any] | None,
) -> str:
    """Train or resume the teacher; path of its checkpoint."""
    begun = as_rank_0(any(Path(work_dir).glob('epoch_*.pth')))
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
    found = os.path.join(work_dir, finished['checkpoint'])
    _say(f'TEACHER: done, {found}; now the student')
    return found


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


def _check_data(teacher: Config, path: str, summary: DataSummary) -> None:
    """Look before hours go into a teacher that could not be used."""
    own = summarize_data(teacher, ('train_dataloader',))
    if own.split_hash == summary.split_hash and own.classes == summary.classes:
        return
    raise UserError(
        f'{path} would train the teacher on other data than the student has: '
        f'{own}, not {summary}; set data_root, classes and split_* as '
        'top-level values of the distillation, or give a trained teacher '
        'with --cfg-options model.teacher_ckpt=FILE'
    )


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
