# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Fill a teacher cache ahead of the training."""

from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from hkd_mm.config.compose import compose_config
from hkd_mm.config.data_summary import resolve_data
from hkd_mm.config.schema import takes
from hkd_mm.config.value_checks import check_model_groups
from hkd_mm.errors import UserError
from hkd_mm.models.teacher_cache import fill_views, open_teacher_cache
from hkd_mm.registry import DATASETS, MODELS
from hkd_mm.training.runtime import choose_device


def build_teacher_cache(
    config: str,
    cfg_options: list[str] | dict[str, Any] | None = None,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Fill the teacher cache of a distillation ahead of the training.

    A view that is stored already is skipped. Without a ``batch_size`` it is that of the
    training, whose numbers are then the same to the last bit. Returned are ``folder``
    and ``entries`` of the cache.
    """
    cfg = compose_config(config, cfg_options)
    resolve_data(cfg, read_data=False)
    _check(cfg, config)
    device = choose_device(cfg)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model).to(device).eval()
    if cfg.get('channels_last'):  # as the training does
        model.to(memory_format=torch.channels_last)
    batch_size = batch_size or cfg.train_dataloader.batch_size
    logger = MMLogger.get_instance('build_teacher_cache')
    open_teacher_cache(model, dataset, logger, batch_size)
    cache = model.teacher_cache
    if not cache.is_open:
        raise UserError(f'no teacher cache was built: {cache.declined}')
    fill_views(model, dataset, batch_size)
    built = dict(folder=str(cache.file.folder), entries=cache.file.count())
    print('{entries} entries in {folder}'.format(**built))
    return built


def _check(cfg: Config, config: str) -> None:
    model = cfg.model
    taught = model.get('teacher') or model.get('teachers')
    if not (taught and takes(model, 'teacher_cache')):
        raise UserError(
            f'config {config} is of {model.get("type")}, which has no frozen '
            'teacher whose answers could be kept: train it without a cache'
        )
    if not model.get('teacher_cache'):
        raise UserError(
            f'config {config} has no model.teacher_cache; set --cfg-options '
            'teacher_cache=True'
        )
    check_model_groups(cfg)
    files = {'teacher_ckpt': model.get('teacher_ckpt')}
    if model.get('teachers'):
        files = {
            f'teachers.{i}.ckpt': network.get('ckpt')
            for i, network in enumerate(model.teachers)
        }
    for key, file in files.items():
        if not file:
            raise UserError(
                f'model.{key} is None; a cache is of a trained teacher: set '
                f'--cfg-options model.{key}=FILE'
            )
    if model.get('fusion') == 'class' and not model.get('class_weights'):
        raise UserError(
            "model.fusion='class' without model.class_weights measures them "
            'when a training begins, which then fills the cache itself: set '
            'model.class_weights, or leave this tool out'
        )
