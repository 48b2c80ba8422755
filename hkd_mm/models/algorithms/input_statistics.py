# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From the student's input normalisation to the teacher's."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from hkd_mm.errors import UserError


class InputConversion:
    """Turn images normalised for one net into images for another.

    ``(x * std_s + mean_s - mean_t) / std_t``, folded into one scale and one
    shift a channel; nothing is computed where both nets agree. The channel
    order follows too where one net takes RGB and the other BGR.

    The teacher's statistics are those of its config, else those that its
    checkpoint remembers of its training; a teacher that names none takes the
    student's images as they are. A window on the stored values must be the
    same for both: what one cuts off cannot be given back.

    Args:
        student: the data preprocessor that normalised the images.
        teacher: the one that the teacher is built with.
        remembered: ``data_preprocessor`` of the checkpoint's ``meta``, a dict
            with ``mean``, ``std`` and ``to_rgb``; may be empty.

    Raises:
        UserError: the nets see the images through unlike windows.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        remembered: dict[str, Any] | None = None,
    ) -> None:
        if not hasattr(teacher, 'mean'):
            known = remembered or {}
            if known.get('mean') and known.get('std'):
                teacher = SimpleNamespace(
                    mean=torch.tensor(known['mean'], dtype=torch.float32),
                    std=torch.tensor(known['std'], dtype=torch.float32),
                    to_rgb=known.get('to_rgb', False),
                )
                if 'window' in known:
                    teacher.window = known['window']
            else:
                teacher = student
        _check_windows(student, teacher)
        mean_s, std_s = _statistics(student)
        mean_t, std_t = _statistics(teacher)
        self.flip = _rgb(student) != _rgb(teacher)
        if self.flip:
            mean_s, std_s = mean_s.flip(0), std_s.flip(0)
        self.scale = (std_s / std_t).view(1, -1, 1, 1)
        self.shift = ((mean_s - mean_t) / std_t).view(1, -1, 1, 1)
        self.identity = bool(
            (self.scale == 1).all()
            and (self.shift == 0).all()
            and not self.flip
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Convert a batch (N, C, H, W) of normalised images."""
        if self.identity:
            return images
        if self.flip:
            images = images.flip(1)
        scale = self.scale.to(images)
        return torch.addcmul(self.shift.to(images), images, scale)


def _statistics(
    preprocessor: nn.Module | SimpleNamespace,
) -> tuple[Tensor, Tensor]:
    """Mean and std (C,) in the order of the channels that the net sees."""
    if not hasattr(preprocessor, 'mean'):
        return torch.zeros(1), torch.ones(1)
    return (
        preprocessor.mean.detach().cpu().flatten(),
        preprocessor.std.detach().cpu().flatten(),
    )


def _check_windows(
    student: nn.Module, teacher: nn.Module | SimpleNamespace
) -> None:
    if not (hasattr(student, 'window') and hasattr(teacher, 'window')):
        return
    mine, other = (
        x.window and tuple(map(float, x.window)) for x in (student, teacher)
    )
    if mine != other:
        raise UserError(
            f'the teacher was trained with the window {other} (centre, width) '
            f'and data_preprocessor.window is {mine}; set it to the same, or '
            'train the teacher with it'
        )


def _rgb(preprocessor: nn.Module | SimpleNamespace) -> bool:
    """Whether the net takes RGB (the loader delivers BGR)."""
    return bool(getattr(preprocessor, 'to_rgb', False))
