# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Mask a student map and generate the teacher's from what is left."""

import torch
from mmrazor.models.architectures.connectors.base_connector import (
    BaseConnector,
)
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.registry import MODELS

from .feature_align_connector import FeatureAlignConnector

_ACTIVATIONS = dict(relu=nn.ReLU, gelu=nn.GELU)


@MODELS.register_module()
class MGDConnector(BaseConnector):
    """Align, mask, generate: the student's side of MGD for classification.

    Yang et al., arXiv 2205.01529, equations 1-4: a 1x1 convolution to the
    teacher's shape (:class:`FeatureAlignConnector`), channels set to 0 at
    random, each with probability ``ratio`` and drawn with torch's generator,
    then convolution 3x3, activation, convolution 3x3. In eval mode nothing
    is masked. ``mask='places'`` sets places to 0 in all channels, as the
    paper does for detection and mmrazor's connector of that name by default;
    that one goes on masking in eval mode, and has to be told the channels.

    Args:
        ratio: probability that a channel or place is masked, in [0, 1);
            lambda in the paper.
        mask: ``channels`` or ``places``.
        activation: ``relu`` or ``gelu``.
        init_cfg: as of mmengine's ``BaseModule``.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        ratio: float = 0.15,
        mask: str = 'channels',
        activation: str = 'relu',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not 0 <= ratio < 1:
            raise UserError(
                f'MGDConnector: ratio={ratio!r} must be in [0, 1); the paper '
                'has 0.15 for classification'
            )
        if mask not in ('channels', 'places'):
            raise UserError(
                f'MGDConnector: mask={mask!r} must be channels or places'
            )
        check_activation(activation, 'MGDConnector')
        self.ratio, self.mask, self.activation = ratio, mask, activation
        self.align = FeatureAlignConnector()
        self.generate: nn.Module | None = None

    def build(
        self, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]
    ) -> None:
        """Create the layers for (N, C, H, W) -> (N, C', H', W').

        Raises:
            UserError: a shape is no map.
        """
        check_map(student_shape, teacher_shape, 'MGDConnector')
        self.align.build(student_shape, teacher_shape)
        self.generate = generation_block(teacher_shape[1], self.activation)

    def forward_train(self, feature: Tensor) -> Tensor:
        """Generate the teacher's map.

        Args:
            feature: (N, C, H, W) of the student.

        Returns:
            (N, C', H', W').
        """
        assert self.generate is not None, 'build() comes before the first use'
        feature = self.align(feature)
        if self.training and self.ratio:
            count, channels, height, width = feature.shape
            shape = (
                (count, channels, 1, 1)
                if self.mask == 'channels'
                else (count, 1, height, width)
            )
            drawn = torch.rand(shape, device=feature.device)
            feature = feature * (drawn >= self.ratio)
        return self.generate(feature)


def generation_block(channels: int, activation: str) -> nn.Sequential:
    """Convolution 3x3, activation, convolution 3x3, of one width.

    Args:
        channels: of the teacher's map.
        activation: ``relu`` or ``gelu``.
    """
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        _ACTIVATIONS[activation](),
        nn.Conv2d(channels, channels, 3, padding=1),
    )


def check_activation(activation: str, user: str) -> None:
    """Refuse an activation that :func:`generation_block` does not know.

    Raises:
        UserError: it is neither ``relu`` nor ``gelu``.
    """
    if activation not in _ACTIVATIONS:
        raise UserError(
            f'{user}: activation={activation!r} must be one of '
            f'{", ".join(_ACTIVATIONS)}'
        )


def check_map(
    student_shape: tuple[int, ...], teacher_shape: tuple[int, ...], user: str
) -> None:
    """Refuse what is not (N, C, H, W).

    Raises:
        UserError: one of the two has another number of dimensions.
    """
    for shape in (student_shape, teacher_shape):
        if len(shape) != 4:
            raise UserError(
                f'{user} joins maps (N, C, H, W), but a recorder delivers '
                f'{shape}; record a map, such as hkd_mm.Feature'
            )
