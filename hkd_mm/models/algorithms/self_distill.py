# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Distillation of a network by itself."""

from mmengine.model import BaseModel
from mmrazor.models.algorithms import SelfDistill as RazorSelfDistill
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.models.algorithms import wiring
from hkd_mm.registry import MODELS


@MODELS.register_module()
class SelfDistill(wiring.TeacherlessMixin, wiring.StudentLossMixin, RazorSelfDistill):
    """``mmrazor.SelfDistill`` for losses that look at the student alone.

    A config that inherits a pair takes its teacher out with
    ``model=dict(type='hkd_mm.SelfDistill', teacher=None)``.

    Args:
        architecture: the student, a classifier config or module.
        distiller: an ``mmrazor.ConfigurableDistiller`` config whose losses
            take ``preds_S``, ``gt_labels`` and ``s_feature`` only.
        input_size: side of the square training images in pixels, for the dry forward.
        calculate_student_loss: add the student's own head loss.

    Raises:
        UserError: a loss asks for a teacher, or would not train.
    """

    family = 'self'  # of methods, for the docs

    def __init__(
        self,
        architecture: dict | BaseModel,
        distiller: dict,
        input_size: int = 116,
        calculate_student_loss: bool = False,
        **kwargs,
    ) -> None:
        distiller = wiring.fill_wiring(distiller)
        for name, mapping in distiller['loss_forward_mappings'].items():
            for key, record in mapping.items():
                if record.get('from_student') is False:
                    raise UserError(
                        f'model.distiller.distill_losses.{name} asks for {key}, '
                        'but hkd_mm.SelfDistill has no teacher; take another '
                        'loss, or hkd_mm.FrozenTeacherDistill'
                    )
        super().__init__(
            architecture=architecture,
            distiller=distiller,
            calculate_student_loss=calculate_student_loss,
            **kwargs,
        )
        self.distillation_stopped = False
        wiring.finish_distiller(
            self.distiller, self.student, None, calculate_student_loss
        )
        wiring.build_lazy_parts(self, input_size)

    def forward_both(
        self, batch_inputs: Tensor, data_samples: list | None
    ) -> dict[str, Tensor]:
        return self.run_student(batch_inputs, data_samples)
