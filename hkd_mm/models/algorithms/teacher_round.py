# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One forward of a frozen teacher for all who listen to it."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from mmrazor.models.task_modules.recorder.module_inputs_recorder import (
    ModuleInputsRecorder,
)
from mmrazor.models.task_modules.recorder.module_outputs_recorder import (
    ModuleOutputsRecorder,
)
from torch import Tensor

from ..recorders.network_recorders import GTLabelsRecorder

_OF_MODULES = (ModuleInputsRecorder, ModuleOutputsRecorder, GTLabelsRecorder)


class TeacherRound:
    """Distillations of one process whose teachers are equal.

    The teacher of the first answers for all: the others' recorders listen to
    it, and their own is given up.
    """

    def __init__(self) -> None:
        self.members: list = []
        self._images: Tensor | None = None  # of the last forward

    @staticmethod
    def takes(model) -> bool:
        """Whether a model is a distillation whose records can be shared."""
        distiller = getattr(model, 'distiller', None)
        return (
            hasattr(model, 'teacher_round')
            and not distiller.deliveries.deliveries
            and all(
                isinstance(recorder, _OF_MODULES)
                for recorder in distiller.teacher_recorders.recorders.values()
            )
        )

    def join(self, model) -> None:
        """Take in a ``FrozenTeacherDistill`` with an equal teacher."""
        if self.members:
            teacher = self.members[0].teacher
            object.__setattr__(model, 'teacher', teacher)
            model.distiller.teacher_recorders.initialize(teacher)
            for loss in model.distiller.distill_losses.values():
                if hasattr(loss, 'attach'):
                    loss.attach(model.student, teacher)
        self.members.append(model)
        model.teacher_round = self
        self._images = None  # whose records the new one has not heard

    def leave(self, model) -> None:
        """Go on without a model."""
        if model in self.members:
            self.members.remove(model)

    def run(self, images: Tensor, data_samples: Sequence | None) -> None:
        """Fill the recorders of all, unless these images did already.

        Args:
            images: (N, 3, H, W), normalised for the students.
            data_samples: as of a classifier's forward.
        """
        if images is not self._images:
            run_teacher(self.members, images, data_samples)
            self._images = images


def run_teacher(
    models: Sequence, images: Tensor, data_samples: Sequence | None = None
) -> None:
    """Run the teacher of the first under the recorders of all.

    Args:
        models: ``FrozenTeacherDistill``s that listen to the same teacher.
        images: (N, 3, H, W), normalised for the students.
        data_samples: as of a classifier's forward.
    """
    first = models[0]
    count = len(images)
    images = first.convert_input(images)
    cache = first.teacher_cache
    cached = cache is not None and cache.declined is None
    if cached:
        images = cache.full_batch(images)
    with ExitStack() as listening:
        listening.enter_context(torch.no_grad())
        for model in models:
            distiller = model.distiller
            distiller.set_deliveries_override(False)
            listening.enter_context(distiller.teacher_recorders)
            listening.enter_context(distiller.deliveries)
        listening.enter_context(
            first.teacher_inference.context(images.device, cached)
        )
        first.teacher(images, data_samples, mode='tensor')
    for model in models:
        recorders = model.distiller.teacher_recorders
        model.teacher_inference.cast_records(recorders, len(images), count)
