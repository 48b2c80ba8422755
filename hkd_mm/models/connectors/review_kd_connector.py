# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Fuse a student's stages from the deepest to the shallowest."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import Count
from hkd_mm.models.connectors.feature_align_connector import (
    LazyConnector,
    Shape,
    resize_map,
)
from hkd_mm.registry import MODELS


@MODELS.register_module()
class ReviewKDConnector(LazyConnector):
    """Attention based fusion (ABF) with residual learning of ReviewKD.

    Chen et al., arXiv 2104.09044, sections 3.2 and 3.3: from the deepest
    stage up, a stage is reduced to ``channels`` (convolution 1x1, BatchNorm),
    mixed with the fused map of the deeper stages under two attention maps
    that a 1x1 convolution makes of both, and passed on; a 3x3 convolution
    with BatchNorm brings each fused map to the teacher's shape.
    """

    # width of the fused maps; that of the deepest student map where it is smaller
    channels: Count = 512

    def build(self, student_shape: list[Shape], teacher_shape: list[Shape]) -> None:
        if not (
            isinstance(student_shape, list)
            and isinstance(teacher_shape, list)
            and len(student_shape) == len(teacher_shape)
            and all(len(x) == 4 for x in student_shape + teacher_shape)
        ):
            raise UserError(
                'ReviewKDConnector fuses as many maps (N, C, H, W) of the '
                f'student as of the teacher, but is given {student_shape} '
                f'and {teacher_shape}; record hkd_mm.StageMaps of both'
            )
        width = min(self.channels, student_shape[-1][1])
        deepest = len(student_shape) - 1
        self.stages = nn.ModuleList(
            _Fusion(mine[1], width, other[1:], stage < deepest)
            for stage, (mine, other) in enumerate(zip(student_shape, teacher_shape))
        )

    def forward_train(self, feature: list[Tensor]) -> list[Tensor]:
        fused, found = None, []
        for stage, own in zip(reversed(self.stages), reversed(feature)):
            fused, aligned = stage(own, fused)
            found.append(aligned)
        return found[::-1]


class _Fusion(nn.Module):
    """One stage: reduce, mix with what is deeper, bring to a shape."""

    def __init__(
        self, channels: int, width: int, target: tuple[int, int, int], deeper: bool
    ) -> None:
        super().__init__()
        self.size = tuple(target[1:])
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        )
        self.attend = nn.Conv2d(2 * width, 2, 1) if deeper else None
        self.expand = nn.Sequential(
            nn.Conv2d(width, target[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(target[0]),
        )

    def forward(self, own: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """The fused map, to pass on, and the same in the teacher's shape."""
        fused = self.reduce(own)
        if self.attend is not None:
            deeper = F.interpolate(deeper, fused.shape[2:], mode='nearest')
            both = torch.cat([fused, deeper], dim=1)
            first, second = self.attend(both).sigmoid().chunk(2, dim=1)
            fused = first * fused + second * deeper
        return fused, self.expand(resize_map(fused, self.size))
