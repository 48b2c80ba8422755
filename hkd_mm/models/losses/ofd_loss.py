# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Overhaul of feature distillation: margin ReLU and partial distance."""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hkd_mm.models.losses.distill_loss import DistillLoss, Shape
from hkd_mm.registry import MODELS


def margins_of(network: nn.Module) -> dict[int, Tensor]:
    """Margins at the ends of the stages of a classifier.

    Returns:
        Channels -> margins (channels,), float32. For timm the last BatchNorm
        of each stage, for others the last one of each width; where two have
        the same width, the deeper.
    """
    inner = getattr(network, 'model', None)
    info = getattr(inner, 'feature_info', None)
    if not info:
        return {
            norm.num_features: expected_negative(norm)
            for norm in _norms_of(network)
        }
    found = {}
    for item in info:
        norms = _norms_of(inner.get_submodule(item['module']))
        if norms:
            found[norms[-1].num_features] = expected_negative(norms[-1])
    return found


def _norms_of(network: nn.Module) -> list[_BatchNorm]:
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.affine
    ]


def expected_negative(norm: _BatchNorm) -> Tensor:
    """Mean of the negative outputs of a BatchNorm: (channels,), <= 0.

    Its outputs are taken to be normal with mean ``beta`` (the shift) and
    standard deviation ``|gamma|`` (the scale), so this is
    ``beta - |gamma| * phi(beta / |gamma|) / Phi(-beta / |gamma|)``.
    """
    shift = norm.bias.detach().double()
    scale = norm.weight.detach().double().abs().clamp(min=1e-12)
    # beyond 100 standard deviations nothing negative is left
    z = (shift / scale).clamp(max=100.0)
    log_density = -z.square() / 2 - math.log(2 * math.pi) / 2
    ratio = (log_density - torch.special.log_ndtr(-z)).exp()
    return (
        torch.where(z < 100.0, shift - scale * ratio, torch.zeros_like(shift))
        .clamp(max=0)
        .float()
    )


@MODELS.register_module()
class OFDLoss(DistillLoss):
    """Margin ReLU and partial L2 of Heo et al., section 3.

    The target is ``max(t, m_c)`` with a margin ``m_c < 0`` a channel, the
    expected value of the negative answers; the distance is
    ``(s - target)^2``, but 0 where ``s <= target <= 0``, averaged over the
    map. As in the paper, the margin follows from scale and shift of the
    teacher's BatchNorm at the end of the stage, whose outputs are taken to be
    normal (:meth:`attach`). A teacher without one, or with
    ``fold_bn``, gets the mean of the negative answers in the batch.

    Recorders deliver most stages behind their ReLU, where all that was
    negative is 0: such a neuron's target is the margin itself, the expected
    value of what is hidden. The paper sums over maps of all stages; here the
    mean makes the weight independent of the size of the image, and each
    further stage is a further loss with recorders of its own. mmrazor's
    ``OFDLoss`` sums, and its margin needs an algorithm class of its own.

    Args:
        loss_weight: factor on the returned scalar; the paper's 1e-3 on a sum
            is ``1e-3 * C * H * W`` of the teacher's map here.
    """

    family = 'feature'
    source = 'Heo et al., arXiv 1904.01866, section 3, margin ReLU, partial L2'
    fails = (
        'It is made for maps before a ReLU; behind one, the negative answers '
        'can only be guessed from the BatchNorm, and residual blocks add to '
        'what that gives.'
    )
    features = 'map'

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.register_buffer('margin', None, persistent=False)
        self._margins: dict[int, Tensor] | None = None
        self._channels: int | None = None

    def attach(self, student: nn.Module, teacher: nn.Module) -> None:
        """Read the margins off the teacher's BatchNorms."""
        self._margins = margins_of(teacher)
        self._settle()

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        """Learn which channels the teacher's feature has."""
        self._channels = teacher_shape[1]
        self._settle()

    def _settle(self) -> None:
        if self._margins is None or self._channels is None:
            return
        self.margin = self._margins.get(self._channels)
        if self.margin is None:
            self.warn_once(
                'margin',
                f'no BatchNorm of {self._channels} channels ends a stage of '
                'the teacher (teacher_inference.fold_bn?); the margin is the '
                'mean of the negative answers in a batch, 0 behind a ReLU',
            )

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """From features (N, C[, H, W]) of one shape to a float32 scalar."""
        student, teacher = s_feature.float(), t_feature.detach().float()
        margin = self.margin
        if margin is None:
            margin = _mean_of_negatives(teacher)
        margin = margin.float().view(-1, *[1] * (teacher.dim() - 2))
        hidden = teacher == 0  # by a ReLU
        target = torch.where(hidden, margin, torch.maximum(teacher, margin))
        near = (student <= target) & (target <= 0)
        distance = (student - target).square().masked_fill(near, 0.0)
        return self.loss_weight * distance.mean()


def _mean_of_negatives(feature: Tensor) -> Tensor:
    """Mean of each channel of (N, C, ...), 0 where none is negative."""
    dims = [dim for dim in range(feature.dim()) if dim != 1]
    count = (feature < 0).sum(dims).clamp(min=1)
    return feature.clamp(max=0).sum(dims) / count
