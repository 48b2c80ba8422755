# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Distillation on four rotated views of every image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from hkd_mm.errors import UserError
from hkd_mm.models.algorithms.frozen_teacher_distill import FrozenTeacherDistill
from hkd_mm.registry import MODELS
from hkd_mm.structures.packed_samples import PackedSamples

VIEWS = 4


@MODELS.register_module()
class RotationDistill(FrozenTeacherDistill):
    """``FrozenTeacherDistill`` whose networks see each image in four rotations.

    The batch becomes the upright images, then all of them rotated by 90, 180
    and 270 degrees (counter-clockwise). Losses for such views
    (:class:`hkd_mm.SSDKDRotationLoss`) and those named in ``all_views`` are
    given all 4 N, all others the N upright ones. Nothing changes at test.

    Args:
        all_views: names of further losses that are given all views.
        kwargs: of :class:`FrozenTeacherDistill`; a ``teacher_cache`` is declined.

    Raises:
        UserError: a name is that of no loss.
    """

    def __init__(self, *args, all_views: Sequence[str] = (), **kwargs) -> None:
        super().__init__(*args, **kwargs)
        losses = self.distiller.distill_losses
        if getattr(self.data_preprocessor, 'teacher_size', None):
            raise UserError(
                'hkd_mm.RotationDistill rotates one image for both networks: leave '
                'teacher_input_size out'
            )
        unknown = sorted(set(all_views) - set(losses))
        if unknown:
            raise UserError(
                f'model.all_views: {unknown[0]!r} is none of the losses '
                f'{", ".join(losses)}'
            )
        for name, loss in losses.items():
            if name not in all_views and getattr(loss, 'views', 1) == 1:
                loss.register_forward_pre_hook(_upright, with_kwargs=True, prepend=True)

    def uncacheable(self) -> str | None:
        return 'hkd_mm.RotationDistill shows every image in four rotations'

    def loss(
        self, batch_inputs: Tensor, data_samples: Sequence | None = None
    ) -> dict[str, Tensor]:
        """Losses of the four views of square images (N, 3, H, H)."""
        height, width = batch_inputs.shape[2:]
        if height != width:
            raise UserError(
                'hkd_mm.RotationDistill needs square images, but these are '
                f'{height} x {width}; set input_size'
            )
        views = torch.cat([batch_inputs.rot90(turns, (2, 3)) for turns in range(VIEWS)])
        if batch_inputs.is_contiguous(memory_format=torch.channels_last):
            views = views.contiguous(memory_format=torch.channels_last)
        if isinstance(data_samples, PackedSamples):
            data_samples = data_samples.mapped(lambda x: torch.cat([x] * VIEWS))
        else:
            data_samples = data_samples and list(data_samples) * VIEWS
        return super().loss(views, data_samples)


def _upright(loss: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    return tree_map_only(Tensor, lambda x: x[: len(x) // VIEWS], (args, kwargs))
