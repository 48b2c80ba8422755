# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Distillation from several frozen teachers at once."""

from mmengine.model import BaseModel

from hkd_mm.engine.checkpoint import load_weights
from hkd_mm.errors import UserError
from hkd_mm.registry import MODELS

from .default_wiring import complete
from .frozen_teacher_distill import FrozenTeacherDistill, init_quietly
from .score_fusion import ScoreFusion
from .teacher_group import TeacherGroup


@MODELS.register_module()
class MultiTeacherDistill(FrozenTeacherDistill):
    """A student of several teachers, whose class scores are made one.

    Each teacher is held to the whole contract of
    :class:`FrozenTeacherDistill`: frozen, in eval mode, run without gradient,
    given images in its own statistics, loaded strictly and safely, and in no
    checkpoint of the run. A loss sees one ``preds_T``
    (:class:`~.score_fusion.ScoreFusion`). Features are not fused; a loss
    that wants them takes those of one teacher through a recorder such as
    ``dict(type='mmrazor.ModuleOutputs', source='nets.0.model.layer4')``.

    Args:
        architecture: the student, a classifier config or module.
        teachers: two or more classifier configs, each with its ``ckpt``
            beside; without one it is used as it was built.
        distiller: as of :class:`FrozenTeacherDistill`.
        fusion: ``average``, ``confidence`` (each image: who errs on its label
            is heard less) or ``class`` (a weight a teacher and class).
        class_weights: one list a teacher of one number a class, for
            ``class``; None to have ``hkd_mm.ClassFusionHook`` measure them.
        fusion_tau: temperature at which the probabilities are mixed; that of
            the loss makes the mixture exact, 1 makes ``preds_T``
            log-probabilities.
        teacher: None; here so that a config can take out an inherited one.
        teacher_ckpt: None, as ``teacher``.
        kwargs: passed on to :class:`FrozenTeacherDistill`.

    Raises:
        UserError: fewer than two teachers, a checkpoint that cannot be used,
            a fusion or weights that make no sense, or a recorder of features.
    """

    family = 'multi'  # of methods, for the docs

    def __init__(
        self,
        architecture: dict | BaseModel,
        teachers: list[dict],
        distiller: dict,
        fusion: str = 'average',
        class_weights: list[list[float]] | None = None,
        fusion_tau: float = 1.0,
        teacher: None = None,
        teacher_ckpt: None = None,
        **kwargs,
    ) -> None:
        if teacher is not None or teacher_ckpt is not None:
            raise UserError(
                'model.teacher and model.teacher_ckpt must be None under '
                'hkd_mm.MultiTeacherDistill; it has model.teachers, each '
                'with its ckpt'
            )
        distiller = complete(distiller)
        _refuse_features(distiller)
        voice = ScoreFusion(fusion, len(teachers), fusion_tau, class_weights)
        built = [_teacher(i, dict(net)) for i, net in enumerate(teachers)]
        nets, metas = map(list, zip(*built, strict=True))
        super().__init__(
            architecture=architecture,
            teacher=TeacherGroup(nets, metas, voice),
            distiller=distiller,
            **kwargs,
        )
        self.teacher.convert_from(self.data_preprocessor)
        self.missing_ckpts = [
            f'model.teachers.{i}.ckpt'
            for i, net in enumerate(teachers)
            if not net.get('ckpt')
        ]

    def uncacheable(self) -> str | None:
        """Reason why the teachers' outputs cannot be stored, if any."""
        if self.teacher.model.kind == 'confidence':
            return (
                "model.fusion='confidence' weighs the teachers by the label "
                'of an image, which it does not store'
            )
        return super().uncacheable()


def _teacher(index: int, config: dict) -> tuple[BaseModel, dict]:
    """Build one, with its weights; and the ``meta`` they came with."""
    path = config.pop('ckpt', None)
    net = MODELS.build(config)
    if path:
        return net, load_weights(net, path, f'model.teachers.{index}')
    init_quietly(net)
    return net, {}


def _refuse_features(distiller: dict) -> None:
    for name, recorder in distiller['teacher_recorders'].items():
        kind = str(recorder.get('type'))
        if kind.startswith('hkd_mm.') and kind != 'hkd_mm.Logits':
            raise UserError(
                f'model.distiller asks for {name} ({kind}) of the teachers, '
                'but hkd_mm.MultiTeacherDistill fuses class scores only; '
                'take a loss of preds_T, or record one teacher: '
                f"distiller.teacher_recorders.{name}=dict(type='mmrazor."
                "ModuleOutputs', source='nets.0.model.layer4')"
            )
