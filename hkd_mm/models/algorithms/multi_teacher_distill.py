# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Distillation from several frozen teachers at once."""

import warnings
from typing import Literal

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.models.algorithms.frozen_teacher_distill import (
    FrozenTeacherDistill,
    load_or_init,
)
from hkd_mm.models.algorithms.teacher_precision import InputConversion
from hkd_mm.models.algorithms.wiring import fill_wiring
from hkd_mm.models.arguments import Positive, checked
from hkd_mm.models.recorders.network_recorders import labels_of
from hkd_mm.registry import MODELS


class ScoreFusion(nn.Module):
    """One distribution out of those of K teachers.

    ``p = sum_k w_k * softmax(z_k / tau)``, returned as ``tau * log p``: with
    ``tau`` = 1 log-probabilities, which every loss takes for class scores; a
    loss that softens by the same ``tau`` sees exactly ``p``. The weights are

    - ``average``: ``1 / K``;
    - ``confidence``: of each image, ``w_k = (1 - exp(L_k) / sum_j exp(L_j)) / (K - 1)``
      with ``L_k`` the cross-entropy of teacher k on the label (CA-MKD, Zhang et al.,
      arXiv 2201.00007): who errs on an image is heard less. Without labels the plain
      average;
    - ``class``: of each class, given or measured; a class that no teacher
      has a weight for counts them equally, and ``p`` is made to sum to one.

    Args:
        count: K, 2 or more.
        class_weights: K rows of one number a class, >= 0, for ``class``;
            None until :meth:`set_class_weights` is called.
    """

    def __init__(
        self,
        kind: str,
        count: int,
        tau: float = 1.0,
        class_weights: list[list[float]] | None = None,
    ) -> None:
        super().__init__()
        checked(Literal['average', 'confidence', 'class'], 'model.fusion', kind)
        checked(Positive, 'model.fusion_tau', tau)
        if count < 2:
            raise UserError(
                f'model.teachers has {count} of them; name two or more, or '
                'take hkd_mm.FrozenTeacherDistill'
            )
        if class_weights is not None and kind != 'class':
            raise UserError(
                f'model.class_weights are for fusion="class", not {kind!r}; '
                'leave one of them out'
            )
        self.kind, self.count, self.tau = kind, count, tau
        self.register_buffer('class_weights', None)
        if class_weights is not None:
            self.set_class_weights(class_weights)

    @property
    def wants_class_weights(self) -> bool:
        return self.kind == 'class' and self.class_weights is None

    def set_class_weights(self, weights: list[list[float]] | Tensor) -> None:
        """Take K rows of one number a class, >= 0."""
        lengths = {len(row) for row in weights}
        good = len(weights) == self.count and len(lengths) == 1
        found = torch.as_tensor(weights, dtype=torch.float32) if good else None
        if found is None or not (found.isfinite() & (found >= 0)).all():
            raise UserError(
                f'model.class_weights must be {self.count} lists, one a '
                'teacher, of one number >= 0 a class'
            )
        self.class_weights = found

    def forward(self, scores: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """K times (N, C), and labels (N,) or (N, C), to (N, C) float32."""
        if len({z.size(1) for z in scores}) > 1:
            raise UserError(
                'model.teachers know different numbers of classes: '
                f'{", ".join(str(z.size(1)) for z in scores)}'
            )
        stack = torch.stack([z.float() for z in scores])
        log_p = F.log_softmax(stack / self.tau, dim=-1)
        fused = torch.logsumexp(log_p + self._shares(stack, labels).log(), 0)
        return self.tau * F.log_softmax(fused, dim=-1)

    def _shares(self, stack: Tensor, labels: Tensor | None) -> Tensor:
        """Weights of scores (K, N, C), to be broadcast over them."""
        equal = stack.new_full((self.count, 1, 1), 1 / self.count)
        if self.kind == 'confidence' and labels is not None:
            errors = [F.cross_entropy(z, labels, reduction='none') for z in stack]
            errors = torch.stack(errors)
            return ((1 - errors.softmax(0)) / (self.count - 1))[..., None]
        if self.kind != 'class':
            return equal
        if self.class_weights is None:
            warnings.warn(
                'fusion="class" without weights counts all teachers alike: set '
                'model.class_weights, or let hkd_mm.ClassFusionHook measure them',
                stacklevel=2,
            )
            return equal
        if self.class_weights.size(1) != stack.size(2):
            raise UserError(
                f'model.class_weights are for {self.class_weights.size(1)} '
                f'classes, the teachers know {stack.size(2)}'
            )
        weights = self.class_weights.to(stack)[:, None]
        return torch.where(weights.sum(0) > 0, weights / weights.sum(0), equal)

    def extra_repr(self) -> str:
        return f'{self.kind}, tau={self.tau}'


class TeacherGroup(BaseModel):
    """Teachers in one module, for a distillation that takes one.

    ``hkd_mm.Logits`` records their fused scores; a recorder of mmrazor reaches one of
    them under ``networks.<i>``. ``metas`` are of their checkpoints, empty without one.
    """

    def __init__(
        self, networks: list[BaseModel], metas: list[dict], fusion: ScoreFusion
    ) -> None:
        super().__init__()
        self.networks, self.model = nn.ModuleList(networks), fusion
        self.metas = metas
        self._convert: list[InputConversion] = []

    def convert_from(self, preprocessor: nn.Module) -> None:
        self._convert = [
            InputConversion(
                preprocessor, network.data_preprocessor, meta.get('data_preprocessor')
            )
            for network, meta in zip(self.networks, self.metas, strict=True)
        ]

    def scores(self, inputs: Tensor) -> list[Tensor]:
        """Scores (N, C) of each teacher for images (N, 3, H, W)."""
        views = [c(inputs) for c in self._convert] or [inputs] * len(self.networks)
        pairs = zip(self.networks, views, strict=True)
        return [network(view, mode='tensor') for network, view in pairs]

    def forward(
        self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'
    ) -> Tensor:
        """Their scores made one: (N, C), float32, see :class:`ScoreFusion`.

        The fusion that looks at labels takes the average without samples.
        """
        assert mode == 'tensor', mode
        labels = None if data_samples is None else labels_of(data_samples)
        return self.model(self.scores(inputs), labels)

    def extra_repr(self) -> str:
        """What decides about the answer beside the weights, for the cache."""
        return repr([convert.key for convert in self._convert])


@MODELS.register_module()
class MultiTeacherDistill(FrozenTeacherDistill):
    """A student of several teachers, whose class scores are made one.

    Each teacher is held to the whole contract of :class:`FrozenTeacherDistill`. A loss
    sees one ``preds_T`` (:class:`ScoreFusion`), or those of all where it says
    ``each_teacher``. Features are not fused; a loss takes those of one teacher through
    a recorder such as ``dict(type='mmrazor.ModuleOutputs',
    source='networks.0.model.layer4')``.

    Args:
        architecture: the student, a classifier config or module.
        teachers: two or more classifier configs, each with its ``ckpt``
            beside; without one it is used as it was built.
        distiller: as of :class:`FrozenTeacherDistill`.
        fusion: ``average``, ``confidence`` or ``class``, see :class:`ScoreFusion`.
        class_weights: one list a teacher of one number a class, for
            ``class``; None to have ``hkd_mm.ClassFusionHook`` measure them.
        fusion_tau: temperature at which the probabilities are mixed; that of the loss
            makes the mixture exact, 1 makes ``preds_T`` log-probabilities.
        teacher: None, as ``teacher_ckpt``; a config takes inherited ones out with it.

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
                'hkd_mm.MultiTeacherDistill; it has model.teachers, each with its ckpt'
            )
        distiller = fill_wiring(distiller)
        for name, recorder in distiller['teacher_recorders'].items():
            kind = str(recorder.get('type'))
            scores = kind in ('hkd_mm.Logits', 'hkd_mm.TeacherScores')
            if kind.startswith('hkd_mm.') and not scores:
                raise UserError(
                    f'model.distiller asks for {name} ({kind}) of the teachers, '
                    'but hkd_mm.MultiTeacherDistill fuses class scores only; '
                    'take a loss of preds_T, or record one teacher: '
                    f"distiller.teacher_recorders.{name}=dict(type='mmrazor."
                    "ModuleOutputs', source='networks.0.model.layer4')"
                )
        fused = ScoreFusion(fusion, len(teachers), fusion_tau, class_weights)
        networks, metas = [], []
        for i, config in enumerate(map(dict, teachers)):
            path = config.pop('ckpt', None)
            networks.append(MODELS.build(config))
            metas.append(load_or_init(networks[-1], path, f'model.teachers.{i}'))
        super().__init__(
            architecture=architecture,
            teacher=TeacherGroup(networks, metas, fused),
            distiller=distiller,
            **kwargs,
        )
        self.teacher.convert_from(self.data_preprocessor)
        self.missing_ckpts = [
            f'model.teachers.{i}.ckpt'
            for i, network in enumerate(teachers)
            if not network.get('ckpt')
        ]

    def uncacheable(self) -> str | None:
        if self.teacher.model.kind == 'confidence':
            return (
                "model.fusion='confidence' weighs the teachers by the label "
                'of an image, which it does not store'
            )
        return super().uncacheable()
