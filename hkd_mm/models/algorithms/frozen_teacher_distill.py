# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Distillation from one teacher that really is frozen."""

from collections.abc import Callable

import torch
from mmengine.model import BaseModel
from mmrazor.models.algorithms import SingleTeacherDistill
from torch import Tensor, nn

from hkd_mm.io.checkpoints import load_weights
from hkd_mm.models.algorithms import wiring
from hkd_mm.models.algorithms.teacher_precision import (
    InputConversion,
    TeacherInference,
    fold_batch_norms,
)
from hkd_mm.models.recorders.network_recorders import (
    LogitsRecorder,
    TeacherScoresRecorder,
)
from hkd_mm.models.teacher_cache import TeacherCache, flatten, unflatten
from hkd_mm.registry import MODELS
from hkd_mm.structures.packed_samples import teacher_images


@MODELS.register_module()
class FrozenTeacherDistill(wiring.StudentLossMixin, SingleTeacherDistill):
    """``mmrazor.SingleTeacherDistill`` with the whole teacher contract.

    MMRazor puts only the BatchNorm of its teacher in eval (Dropout and
    DropPath stay on, the soft targets are random), computes a teacher loss
    and throws it away, reads checkpoints that may run code, and saves the
    teacher in every checkpoint. Here the teacher

    - is in eval mode as a whole, whatever ``train()`` is called with;
    - runs without gradient and without a loss (``mode='tensor'``);
    - is given images normalised with its own statistics, and of its own size where
      ``data_preprocessor.teacher_size`` names one;
    - is loaded strictly and with ``weights_only=True``;
    - is no submodule (optimizer, checkpoints and distributed training do not see
      it), but follows ``to()``, ``cuda()``, ``half()``.

    Connectors and losses with a ``build`` method are built from the shapes
    that one dry forward shows; losses with ``attach`` are given the networks.

    Args:
        architecture: the student, a classifier config or module.
        teacher: the teacher, a classifier config or module.
        distiller: an ``mmrazor.ConfigurableDistiller`` config; recorders and mappings
            it leaves out are filled in (:mod:`hkd_mm.models.algorithms.wiring`).
        teacher_ckpt: file with the teacher's weights; ``hkd_mm.TeacherCheckHook``
            refuses to train with a teacher that was built from a config without one.
        student_ckpt: file with weights that the student starts from (a previous
            stage), loaded strictly by ``init_weights``.
        input_size: side of the square training images in pixels, for the dry forward.
        teacher_cache: arguments of :class:`hkd_mm.models.teacher_cache.TeacherCache`,
            which then answers in place of the teacher where it can. Where it cannot
            (images that are not packed, no room on the disk), the log says why.
        teacher_inference: arguments of :class:`TeacherInference`.
        calculate_student_loss: add the student's own head loss. Off by
            default: the losses of this zoo take the labels themselves.

    Raises:
        UserError: the checkpoint cannot be used, a loss would not train, or
            a connector cannot join what the recorders deliver.
    """

    def __init__(
        self,
        architecture: dict | BaseModel,
        teacher: dict | BaseModel,
        distiller: dict,
        teacher_ckpt: str | None = None,
        student_ckpt: str | None = None,
        input_size: int = 116,
        teacher_cache: dict | None = None,
        teacher_inference: dict | None = None,
        calculate_student_loss: bool = False,
        **kwargs,
    ) -> None:
        wiring.name_preprocessor(kwargs)
        # keys of checkpoints that a training cannot do without
        self_built = isinstance(teacher, dict) and not teacher_ckpt
        super().__init__(
            architecture=architecture,
            teacher=teacher,
            distiller=wiring.fill_wiring(distiller),
            calculate_student_loss=calculate_student_loss,
            **kwargs,
        )
        self.missing_ckpts = ['model.teacher_ckpt'] if self_built else []
        # a plain attribute, which nn.Module does not see
        teacher = self._modules.pop('teacher')
        object.__setattr__(self, 'teacher', teacher.eval())
        self.student_ckpt = student_ckpt
        self.teacher_ckpt = teacher_ckpt
        self.teacher_meta = load_or_init(self.teacher, teacher_ckpt, 'teacher')
        self.teacher_inference = TeacherInference(**teacher_inference or {})
        if self.teacher_inference.fold_bn:
            fold_batch_norms(self.teacher, input_size)
        self.convert_input = InputConversion(
            self.data_preprocessor,
            self.teacher.data_preprocessor,
            self.teacher_meta.get('data_preprocessor'),
        )
        self.teacher_cache = TeacherCache(**teacher_cache) if teacher_cache else None
        wiring.finish_distiller(
            self.distiller, self.student, self.teacher, calculate_student_loss
        )
        wiring.build_lazy_parts(self, input_size)

    def init_weights(self) -> None:
        super().init_weights()
        if self.student_ckpt:
            load_weights(self.student, self.student_ckpt, 'student')

    def _apply(self, fn: Callable, *args, **kwargs) -> nn.Module:
        self.teacher._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def train(self, mode: bool = True) -> nn.Module:
        nn.Module.train(self, mode)
        self.teacher.eval()
        return self

    def forward_both(
        self, batch_inputs: Tensor, data_samples: list | None
    ) -> dict[str, Tensor]:
        cache = self.teacher_cache
        if cache is None or not (self.training and cache.is_open):
            self._run_teacher(batch_inputs, data_samples)
        else:
            shown = teacher_images(batch_inputs, data_samples)
            stored = cache.answer(
                data_samples.index, lambda: self.teacher_records(shown)
            )
            for name, buffer in unflatten(stored).items():
                recorders = self.distiller.teacher_recorders
                recorders.get_recorder(name)._data_buffer = buffer
        return self.run_student(batch_inputs, data_samples)

    def _run_teacher(
        self, batch_inputs: Tensor, data_samples: list | None = None
    ) -> None:
        distiller = self.distiller
        distiller.set_deliveries_override(False)
        recorders = distiller.teacher_recorders
        images = self.convert_input(teacher_images(batch_inputs, data_samples))
        cache = self.teacher_cache
        cached = cache is not None and cache.declined is None
        if cached:
            images = cache.full_batch(images)
        with (
            torch.no_grad(),
            recorders,
            distiller.deliveries,
            self.teacher_inference.context(images.device, cached),
        ):
            self.teacher(images, data_samples, mode='tensor')
        self.teacher_inference.cast_records(recorders, len(images), len(batch_inputs))

    def cached_recorders(self) -> list[str]:
        """Teacher recorders that a loss asks for, in order."""
        mappings = self.distiller.loss_forward_mappings
        return sorted(wiring.asked_recorders(mappings, False))

    def exact_records(self) -> set[str]:
        """Those of them that are class scores."""
        recorders = self.distiller.teacher_recorders.recorders
        return {
            name
            for name in self.cached_recorders()
            if isinstance(recorders[name], (LogitsRecorder, TeacherScoresRecorder))
        }

    def uncacheable(self) -> str | None:
        """Reason why the teacher's outputs cannot be stored, if any."""
        if self.distiller.deliveries.deliveries:
            return 'model.distiller.distill_deliveries cannot be repeated'
        return None

    def teacher_records(self, batch_inputs: Tensor) -> dict[str, Tensor]:
        """What the teacher's recorders deliver for a batch, for the cache.

        Returns:
            Recorder -> (N, ...); ``recorder.i`` where it delivers several.

        Raises:
            CacheDeclined: they deliver what cannot be stored.
        """
        cache = self.teacher_cache
        if cache is None or not cache.average:
            return self._records_of(batch_inputs)
        turned = [batch_inputs.rot90(turns, (2, 3)) for turns in range(4)]
        turned += [images.flip(3) for images in turned]
        found = [self._records_of(images) for images in turned]
        return {n: torch.stack([x[n] for x in found]).mean(0) for n in found[0]}

    def _records_of(self, batch_inputs: Tensor) -> dict[str, Tensor]:
        self._run_teacher(batch_inputs)
        recorder = self.distiller.teacher_recorders.get_recorder
        buffers = {n: recorder(n).data_buffer for n in self.cached_recorders()}
        return flatten(buffers, len(batch_inputs))


def load_or_init(model: BaseModel, path: str | None, name: str) -> dict:
    """Load weights and return their ``meta``; without a path draw them."""
    if path:
        return load_weights(model, path, name)
    model._dump_init_info = lambda: None  # four log lines a parameter
    model.init_weights()
    del model._dump_init_info
    return {}
