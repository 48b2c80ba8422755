# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Connectors that find by themselves which shapes they have to join."""

from dataclasses import field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from pydantic import Field
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import Arguments, Whole
from hkd_mm.registry import MODELS

Shape = tuple[int, ...]


class LazyConnector(Arguments, BaseConnector):
    """A connector whose layers are made when ``build`` is given both shapes."""

    init_cfg: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__(self.init_cfg)


@MODELS.register_module()
class FeatureAlignConnector(LazyConnector):
    """Bring a student feature to the shape of the teacher's.

    A learned 1x1 convolution matches the channels (a linear layer for vectors), as in
    FitNets (Romero et al., arXiv 1412.6550, section 2.2); maps are pooled (adaptive
    average) where the student's is larger and interpolated (bilinear) where it is
    smaller; a map meets a vector through global average pooling. :meth:`build` is given
    the two shapes that one dry forward has shown.
    """

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        for shape in (student_shape, teacher_shape):
            if len(shape) not in (2, 4):
                raise UserError(
                    'FeatureAlignConnector joins maps (N, C, H, W) and vectors (N, C), '
                    f'but a recorder delivers {shape}; record another module'
                )
        if len(student_shape) < len(teacher_shape):
            raise UserError(
                'FeatureAlignConnector cannot make a map of a vector: the '
                f'student delivers {student_shape}, the teacher '
                f'{teacher_shape}; record a map of the student'
            )
        self.target_size = tuple(teacher_shape[2:])
        is_map = bool(self.target_size)
        self.project = _linear(is_map, student_shape[1], teacher_shape[1])

    def forward_train(self, feature: Tensor) -> Tensor:
        if self.target_size:
            feature = resize_map(feature, self.target_size)
        elif feature.dim() == 4:
            feature = feature.mean(dim=(2, 3))
        return self.project(feature)


def check_maps(user: str, *shapes: Shape) -> None:
    """Refuse shapes that are not (N, C, H, W)."""
    for shape in shapes:
        if len(shape) != 4:
            raise UserError(
                f'{user} takes maps (N, C, H, W), but a recorder delivers '
                f'{tuple(shape)}; record a stage with maps, such as hkd_mm.Feature'
            )


def conv_norm_relu(channels: int, width: int, kernel: int) -> list[nn.Module]:
    """A convolution that keeps the size, BatchNorm and ReLU."""
    conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(width), nn.ReLU()]


def resize_map(feature: Tensor, size: tuple[int, int]) -> Tensor:
    """Pool a map (N, C, H, W) down, or interpolate it up, to ``size``."""
    height, width = feature.shape[2:]
    if (height, width) == tuple(size):
        return feature
    if height >= size[0] and width >= size[1]:
        if torch.are_deterministic_algorithms_enabled():
            # On a GPU the gradient of adaptive pooling is not deterministic.
            rows, columns = (
                F.adaptive_avg_pool1d(torch.eye(old).to(feature), new)
                for old, new in zip((height, width), size)
            )
            return rows.T @ feature @ columns
        return F.adaptive_avg_pool2d(feature, size)
    return F.interpolate(feature, size, mode='bilinear', align_corners=False)


@MODELS.register_module()
class RegressorConnector(FeatureAlignConnector):
    """Bring a student feature to the teacher's shape, with BatchNorm.

    As :class:`FeatureAlignConnector`, but the 1x1 convolution (linear layer
    for vectors) is followed by a BatchNorm, as OFD (Heo et al., arXiv
    1904.01866, section 3.2) and AB have it, and hidden layers (convolution,
    BatchNorm, ReLU) as wide as the teacher may come before it, as in VID. KD++ has the
    BatchNorm of its embedding first.
    """

    hidden: Whole = 0
    norm: bool = True  # a BatchNorm behind the last layer
    norm_first: bool = False  # a BatchNorm before all layers

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        super().build(student_shape, teacher_shape)
        is_map = bool(self.target_size)
        norm = nn.BatchNorm2d if is_map else nn.BatchNorm1d
        before, wide = student_shape[1], teacher_shape[1]
        layers: list[nn.Module] = [norm(before)] if self.norm_first else []
        for _ in range(self.hidden):
            layers += [_linear(is_map, before, wide, False), norm(wide), nn.ReLU()]
            before = wide
        layers.append(_linear(is_map, before, wide, not self.norm))
        if self.norm:
            layers.append(norm(wide))
        self.project = nn.Sequential(*layers)


@MODELS.register_module()
class StagesConnector(LazyConnector):
    """A connector of its own for each stage, for losses of several maps."""

    # config of the connector of a stage
    each: Annotated[dict[str, Any], Field(min_length=1)] = field(
        default_factory=lambda: dict(type='hkd_mm.FeatureAlignConnector')
    )

    def build(self, student_shape: list[Shape], teacher_shape: list[Shape]) -> None:
        if len(student_shape) != len(teacher_shape):
            raise UserError(
                'StagesConnector joins as many maps of the student as of the teacher, '
                f'but is given {len(student_shape)} and {len(teacher_shape)}; record '
                'hkd_mm.StageMaps of both with as many stages'
            )
        self.stages = nn.ModuleList(MODELS.build(self.each) for _ in teacher_shape)
        for stage, *shapes in zip(self.stages, student_shape, teacher_shape):
            stage.build(*shapes)

    def forward_train(self, feature: list[Tensor]) -> list[Tensor]:
        return [stage(own) for stage, own in zip(self.stages, feature, strict=True)]


@MODELS.register_module()
class OrthogonalConnector(FeatureAlignConnector):
    """Rotate a pooled student feature into the teacher's space, as VkD.

    A linear layer without bias whose weight has orthonormal columns (rows where the
    student is the wider), Miles et al., arXiv 2403.06213, section 3.2: it keeps all
    angles and lengths, so it cannot learn the task in the student's place. Maps are
    pooled. In float32 also under autocast.

    The authors make the weight out of free parameters, torch's way of which takes half
    a minute a step for 1280 to 2048 channels on a CPU core; here it is trained as it is
    and brought back by a QR decomposition before each use.
    """

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        if len(teacher_shape) != 2:
            raise UserError(
                'OrthogonalConnector joins vectors (N, C), but the teacher delivers '
                f'{teacher_shape}; take hkd_mm.FeatureAlignConnector for maps'
            )
        super().build(student_shape, teacher_shape)
        self.project = _linear(False, student_shape[1], teacher_shape[1], bias=False)
        nn.init.orthogonal_(self.project.weight)

    def forward_train(self, feature: Tensor) -> Tensor:
        self._orthogonalize(self.project.weight)
        with torch.autocast(feature.device.type, enabled=False):
            return super().forward_train(feature.float())

    @staticmethod
    @torch.no_grad()
    def _orthogonalize(weight: Tensor) -> None:
        wide = weight.size(0) < weight.size(1)
        q, r = torch.linalg.qr(weight.T if wide else weight)
        q = q * r.diagonal().sign()  # so that it moves with the weight, without jumps
        weight.copy_(q.T if wide else q)


def _linear(is_map: bool, before: int, behind: int, bias: bool = True) -> nn.Module:
    if is_map:
        return nn.Conv2d(before, behind, 1, bias=bias)
    return nn.Linear(before, behind, bias=bias)
