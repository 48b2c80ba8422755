# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What our set-ups are held against: MMRazor on MMPretrain's pipeline."""

import argparse
import json
from pathlib import Path

from _common import compose


def to_stock(cfg, student_channels: int, teacher_channels: int) -> None:
    """Turn our distillation into MMRazor's, in place.

    The losses keep their weights; the hard label's is 1, the student's own.

    Args:
        cfg: of the distillation, not packed.
        student_channels: of the student's last feature map.
        teacher_channels: of the teacher's.
    """

    def record(recorder: str, student: bool, **kwargs) -> dict:
        return dict(recorder=recorder, from_student=student, **kwargs)

    def recorders(**sources: str) -> dict:
        return {
            name: dict(type='mmrazor.ModuleOutputs', source=source)
            for name, source in sources.items()
        }

    loss = cfg.model.distiller.distill_losses.loss_hybrid
    sources = [
        dict(logits='model.classifier', feature='model.blocks.6'),
        dict(logits='model.fc', feature='model.layer4'),
    ]
    losses = dict(
        loss_kl=dict(
            type='mmrazor.KLDivergence', tau=loss.tau, loss_weight=loss.alpha
        )
    )
    mappings = dict(
        loss_kl=dict(
            preds_S=record('logits', True), preds_T=record('logits', False)
        )
    )
    connectors = {}
    if loss.beta > 0:
        losses['loss_fa'] = dict(
            type='mmrazor.L2Loss',
            normalize=False,
            loss_weight=loss.beta,
            dist=False,
        )
        mappings['loss_fa'] = dict(
            s_feature=record('feature', True, connector='align'),
            t_feature=record('feature', False),
        )
        align = dict(
            in_channels=student_channels,
            out_channels=teacher_channels,
            kernel_size=1,
        )
        connectors['align'] = dict(
            type='mmrazor.TorchNNConnector',
            module_name='Conv2d',
            module_args=align,
        )
    else:
        for source in sources:
            del source['feature']
    cfg.data_preprocessor.setdefault('type', 'ClsDataPreprocessor')
    cfg.model = dict(
        type='mmrazor.SingleTeacherDistill',
        architecture=dict(cfg.model.architecture, type='TimmClassifier'),
        teacher=dict(cfg.model.teacher, type='TimmClassifier'),
        distiller=dict(
            type='mmrazor.ConfigurableDistiller',
            student_recorders=recorders(**sources[0]),
            teacher_recorders=recorders(**sources[1]),
            connectors=connectors,
            distill_losses=losses,
            loss_forward_mappings=mappings,
        ),
    )


def to_stock_hooks(cfg) -> None:
    """Leave only the hooks of MMEngine, in place."""
    names = dict(
        runtime_info='RuntimeInfoHook',
        timer='IterTimerHook',
        logger='LoggerHook',
        param_scheduler='ParamSchedulerHook',
        checkpoint='CheckpointHook',
        sampler_seed='DistSamplerSeedHook',
    )
    interval = cfg.default_hooks.logger.interval
    cfg.default_hooks = {k: dict(type=name) for k, name in names.items()}
    cfg.default_hooks.logger.interval = interval
    cfg.default_hooks.checkpoint.interval = 1
    cfg.custom_hooks = []


def dump_stock(values: str, data: str, path: str, teacher: str) -> None:
    """Write the config of ``stock`` for ``tools/train.py``.

    Args:
        values: JSON of the options of :func:`make_parser`.
        data: class folders.
        path: where to.
        teacher: a checkpoint.
    """
    cfg = compose(
        argparse.Namespace(**json.loads(values)), 'stock', Path(data)
    )
    to_stock_hooks(cfg)
    cfg.model.teacher_ckpt = teacher
    cfg.dump(path)
