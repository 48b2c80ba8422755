# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Mask a student map and generate the teacher's from what is left."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from pydantic import Field
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import Arguments, Fraction, Share
from hkd_mm.models.connectors.feature_align_connector import (
    FeatureAlignConnector,
    LazyConnector,
    Shape,
    check_maps,
    resize_map,
)
from hkd_mm.registry import MODELS

_ACTIVATIONS = dict(relu=nn.ReLU, gelu=nn.GELU)
Activation = Literal['relu', 'gelu']


class _Generating:
    """A connector that ends with convolution 3x3, activation, convolution 3x3."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.align = FeatureAlignConnector()

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        check_maps(type(self).__name__, student_shape, teacher_shape)
        self.align.build(student_shape, teacher_shape)
        width = teacher_shape[1]
        self.generate = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            _ACTIVATIONS[self.activation](),
            nn.Conv2d(width, width, 3, padding=1),
        )


@MODELS.register_module()
class MGDConnector(_Generating, LazyConnector):
    """Align, mask, generate: the student's side of MGD for classification.

    Yang et al., arXiv 2205.01529, equations 1-4: a 1x1 convolution to the
    teacher's shape (:class:`FeatureAlignConnector`), channels set to 0 at
    random, each with probability ``ratio`` and drawn with torch's generator,
    then convolution 3x3, activation, convolution 3x3. In eval mode nothing is masked.
    ``mask='places'`` sets places to 0 in all channels, as the paper does for detection.
    mmrazor's connector masks in eval mode as well, and needs the number of channels.
    """

    # probability that a channel or place is masked; lambda in the paper
    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.15
    mask: Literal['channels', 'places'] = 'channels'
    activation: Activation = 'relu'

    def forward_train(self, feature: Tensor) -> Tensor:
        feature = self.align(feature)
        if self.training and self.ratio:
            one = feature[:, :, :1, :1] if self.mask == 'channels' else feature[:, :1]
            drawn = torch.rand(one.shape, device=feature.device)
            feature = feature * (drawn >= self.ratio)
        return self.generate(feature)


@MODELS.register_module()
class HFMaskConnector(_Generating, Arguments, BaseModule):
    """Hierarchical fusion masking of DSP-KD: attention, mask, generation.

    Zeng et al., Bioengineering 2024, 11, 70, section 3.2.2: the teacher's attention is
    fused from the deepest level to the shallowest,
    ``A_n = fusion * a_n + (1 - fusion) * up(A_{n+1})``, and the aligned student map is
    0 where the attention is at least ``phi`` (equation 3); two convolutions with a GELU
    between them generate the teacher's map from the rest (equation 4).

    Where the paper is silent or cannot be trained: ``a_n`` is the mean of the absolute
    values over the channels, divided by its mean over the places, for the paper's 1x1
    convolution lies before a threshold and would never get a gradient; the fused map is
    averaged to the size of the last level and stretched to [0, 1] in each image, so
    ``phi`` is a share of the largest attention. A map of one value masks nothing. It
    needs maps of both networks, so it is part of :class:`MGDHFLoss`.
    """

    phi: Fraction = 0.5  # threshold on the attention
    fusion: Share = 0.5  # share of a level's own attention
    activation: Activation = 'gelu'

    def attention(self, maps: list[Tensor]) -> Tensor:
        """Fused attention (N, 1, H, W) of the teacher, in [0, 1], float32.

        H and W are those of the deepest, the last, of ``maps``, (N, C_n, H_n, W_n).
        """
        fused = None
        for feature in reversed(maps):
            own = feature.detach().float().abs().mean(1, keepdim=True)
            own = own / own.mean((2, 3), keepdim=True).clamp(min=1e-12)
            if fused is not None:
                above = F.interpolate(fused, own.shape[2:], mode='bilinear')
                own = self.fusion * own + (1 - self.fusion) * above
            fused = own
        fused = resize_map(fused, maps[-1].shape[2:])
        low, high = fused.amin((2, 3), True), fused.amax((2, 3), True)
        return (fused - low) / (high - low).clamp(min=1e-12)

    def forward(
        self, feature: Tensor, teacher_maps: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """From the student's last map (N, C, H, W) to the teacher's (N, C', H', W').

        Returns:
            The generated and the merely aligned map.
        """
        if teacher_maps is None:
            raise UserError(
                'HFMaskConnector needs maps of the teacher, which a connector of a '
                'distiller is not given; take hkd_mm.MGDHFLoss, which owns one'
            )
        aligned = self.align(feature)
        mask = self.attention(teacher_maps) < self.phi
        return self.generate(aligned * mask), aligned


@MODELS.register_module()
class ResizeConnector(LazyConnector):
    """Pool or interpolate a student map to the teacher's size, no weights.

    For losses on maps whose channels agree already.
    """

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        check_maps('ResizeConnector', student_shape, teacher_shape)
        if student_shape[1] != teacher_shape[1]:
            raise UserError(
                f'ResizeConnector leaves {student_shape[1]} channels as they are, the '
                f'teacher has {teacher_shape[1]}; take hkd_mm.FeatureAlignConnector'
            )
        self.size = tuple(teacher_shape[2:])

    def forward_train(self, feature: Tensor) -> Tensor:
        return resize_map(feature, self.size)
