# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What an earlier stage must have in common with the run built on it."""

from hkd_mm.errors import UserError

from ..config.data_summary import DataSummary, check_classes, summarize_data

_RULE = '=' * 72


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
        say(
            f'WARNING: teacher {path} was trained on another split '
            f'({split[:8]}) than the one in use '
            f'({summary.split_hash[:8]}): it may have seen the test images'
        )


def check_data(stage, summary: DataSummary) -> None:
    """Look before hours go into a model that could not be used.

    Args:
        stage: a :class:`.earlier_stage.Stage`.
        summary: data of the run that builds on it.

    Raises:
        UserError: it would be trained on other data.
    """
    own = summarize_data(stage.cfg, ('train_dataloader',))
    if own.split_hash == summary.split_hash and own.classes == summary.classes:
        return
    raise UserError(
        f'{stage.path} would train the {stage.role} on other data than the '
        f'student has: {own}, not {summary}; set data_root, classes and '
        f'split_* as top-level values of the distillation, or give a trained '
        f'{stage.role} with --cfg-options {stage.key}=FILE'
    )


def say(line: str) -> None:
    """Print a line that nobody overlooks, once for all processes."""
    from mmengine.dist import is_main_process

    if is_main_process():
        print(f'{_RULE}\n{line}\n{_RULE}', flush=True)
