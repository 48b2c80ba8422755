# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The student that a later stage starts from."""

from typing import Any

from mmengine.config import Config

from ..config.compose import config_named, load_config
from ..config.data_summary import DataSummary
from ..config.same_net import check_same_net
from ..config.teacher_options import stage_options
from .earlier_stage import Stage, Train, provide

_OF_THE_STAGE = (
    'model.distiller',
    'model.student_ckpt',
    'earlier_stage_config',
    'work_dir',
    'load_from',
    'resume',
)


def provide_student(
    cfg: Config,
    summary: DataSummary,
    train: Train,
    amp: bool = False,
    launcher: str = 'none',
    cfg_options: list[str] | dict[str, Any] | None = None,
) -> str:
    """A checkpoint for ``model.student_ckpt``, by training if need be.

    ``earlier_stage_config`` names the distillation of the stage before. It
    has the same teacher, images, split and pair, and all options of the
    command line but those on the distiller; where it is found or trained, see
    :func:`.earlier_stage.provide`.

    Args:
        cfg: the later stage, with ``work_dir`` and ``model.teacher_ckpt``
            set.
        summary: its data.
        train: :func:`hkd_mm.apis.train.train`.
        amp: as of the later stage.
        launcher: as of the later stage.
        cfg_options: as of the later stage.

    Returns:
        Path of the student's checkpoint.

    Raises:
        UserError: see :func:`.earlier_stage.provide`; or the config trains
            another student.
    """
    path = config_named(cfg, 'earlier_stage_config')
    options, lines = stage_options(cfg, path, cfg_options, _OF_THE_STAGE)
    if cfg.model.get('teacher_ckpt'):
        options['model.teacher_ckpt'] = cfg.model.teacher_ckpt
    first = load_config(path, options)
    stage = Stage(
        'first student',
        'model.student_ckpt',
        path,
        first,
        cfg.work_dir,
        options,
    )
    for line in lines:
        stage.say(line)
    check_same_net(
        cfg.model.architecture,
        first.model.get('architecture', first.model),
        path,
        'architecture',
    )
    return provide(stage, summary, train, amp, launcher)
