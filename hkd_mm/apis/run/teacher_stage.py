# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The teacher of a distillation, where no checkpoint is given."""

from typing import Any

from mmengine.config import Config

from ..config.compose import config_named, load_config
from ..config.data_summary import DataSummary
from ..config.same_net import check_same_net
from ..config.teacher_options import teacher_options
from .distiller_check import check_distiller
from .earlier_stage import Stage, Train, provide


def provide_teacher(
    cfg: Config,
    summary: DataSummary,
    train: Train,
    amp: bool = False,
    launcher: str = 'none',
    cfg_options: list[str] | dict[str, Any] | None = None,
) -> str:
    """A checkpoint for ``model.teacher_ckpt``, by training if need be.

    The teacher's config is ``teacher_config``. Its options are those of
    :func:`hkd_mm.apis.config.teacher_options.teacher_options`; where it is
    found or trained, see :func:`.earlier_stage.provide`.

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
        UserError: see :func:`.earlier_stage.provide`; or the distiller
            cannot be built, or the config trains another net.
    """
    path = config_named(cfg, 'teacher_config')
    check_distiller(cfg)
    options, lines = teacher_options(cfg, path, cfg_options)
    teacher = load_config(path, options)
    stage = Stage(
        'teacher', 'model.teacher_ckpt', path, teacher, cfg.work_dir, options
    )
    for line in lines:
        stage.say(line)
    check_same_net(cfg.model.teacher, teacher.model, path)
    return provide(stage, summary, train, amp, launcher)
