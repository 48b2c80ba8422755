# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Teachers and students that are trained along, and what they must share."""

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from hkd_mm.config.compose import Options, config_named, load_config
from hkd_mm.config.data_summary import DataSummary
from hkd_mm.config.networks import check_same_network, essence
from hkd_mm.config.teacher_options import stage_options, teacher_options
from hkd_mm.engine.student_loading import describe_network
from hkd_mm.errors import UserError
from hkd_mm.models.algorithms.wiring import check_losses, fill_wiring
from hkd_mm.registry import MODELS
from hkd_mm.training.previous_run import Stage, Train, check_given, provide


def check_distiller(cfg: Config) -> None:
    """Build the losses, recorders and connectors, but no network."""
    scope = cfg.get('default_scope', 'mmpretrain')
    with DefaultScope.overwrite_default_scope(scope):
        distiller = MODELS.build(fill_wiring(cfg.model.distiller))
    check_losses(distiller, cfg.model.get('calculate_student_loss', False))


def provide_teacher(
    cfg: Config,
    summary: DataSummary,
    train: Train,
    cfg_options: Options = None,
    **how: Any,
) -> str:
    """Return a checkpoint for ``model.teacher_ckpt``, see
    :func:`.previous_run.provide`.

    ``train`` is that of :mod:`.trainer`, ``how`` the distillation's amp and launcher.
    """
    path = config_named(cfg, 'teacher_config')
    check_distiller(cfg)
    options, lines = teacher_options(cfg, path, cfg_options)
    teacher = load_config(path, options)
    stage = Stage('teacher', 'model.teacher_ckpt', path, teacher, cfg.work_dir, options)
    for line in lines:
        stage.announce(line)
    check_same_network(cfg.model.teacher, teacher.model, path)
    return provide(stage, summary, train, **how)


_OF_THE_STAGE = (
    'model.distiller model.student_ckpt previous_stage_config work_dir load_from resume'
).split()


def provide_student(
    cfg: Config,
    summary: DataSummary,
    train: Train,
    cfg_options: Options = None,
    **how: Any,
) -> str:
    """Return a checkpoint for ``model.student_ckpt``; train it if need be.

    ``previous_stage_config`` names the distillation of the stage before. It has the
    same teacher, images, split and pair, and all options but those on the distiller.
    """
    path = config_named(cfg, 'previous_stage_config')
    options, lines = stage_options(cfg, path, cfg_options, _OF_THE_STAGE)
    if cfg.model.get('teacher_ckpt'):
        options['model.teacher_ckpt'] = cfg.model.teacher_ckpt
    first = load_config(path, options)
    key = 'model.student_ckpt'
    stage = Stage('first student', key, path, first, cfg.work_dir, options)
    for line in lines:
        stage.announce(line)
    trained = first.model.get('architecture', first.model)
    check_same_network(cfg.model.architecture, trained, path, 'architecture')
    return provide(stage, summary, train, **how)


def check_teachers(cfg: Config, summary: DataSummary) -> None:
    """Look at the checkpoints of ``model.teachers``, where there are any."""
    for index, network in enumerate(cfg.model.get('teachers') or ()):
        if network.get('ckpt'):
            check_given(network.ckpt, summary)
            continue
        path, key = _config_of(cfg, network), f'model.teachers.{index}'
        way = f'with python tools/train.py {path}' if path else 'alone on the same data'
        file = f'work_dirs/{path.stem}/student.pth' if path else 'FILE'
        raise UserError(
            f'{key} ({describe_network(network)}) has no ckpt: train it {way}, then '
            f'set --cfg-options {key}.ckpt={file}'
        )


def _config_of(cfg: Config, network: dict) -> Path | None:
    if not cfg.get('teacher_config'):
        return None
    own = Path(config_named(cfg, 'teacher_config'))
    data = Config.fromfile(own).data_root
    for file in [own, *sorted(own.parent.glob('[!_]*.py'))]:
        found = Config.fromfile(file)
        if found.get('data_root') == data and essence(found.model) == essence(network):
            here = Path.cwd()
            return file.relative_to(here) if here in file.parents else file
    return None
