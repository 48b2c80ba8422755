# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Losses over several stages: knowledge review and SemCKD."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hkd_mm.models.connectors.feature_align_connector import resize_map
from hkd_mm.models.losses.distill_loss import DistillLoss, gather_batch
from hkd_mm.registry import MODELS


@MODELS.register_module()
class ReviewKDLoss(DistillLoss):
    """Hierarchical context loss (HCL) of ReviewKD, summed over the stages.

    A stage's maps are compared as they are and pooled to 4 x 4, 2 x 2 and
    1 x 1 cells, where that is fewer than they have; with weights 1, 1/2, 1/4,
    1/8 in this order, the loss of a stage is the weighted mean of the mean
    squared differences. The student's maps come through
    :class:`ReviewKDConnector`, which a config has to name like the loss.

    Args:
        loss_weight: factor on the returned scalar.

    Raises:
        UserError: a value is out of its range.
    """

    family = 'feature'
    source = 'Chen et al., arXiv 2104.09044 (ReviewKD), section 3'
    fails = (
        'Squared differences of plain activations: a teacher with large '
        'activations drowns the label loss at the start, so the authors warm '
        'the weight up.'
    )
    features = 'maps'

    def forward(
        self, s_feature: list[Tensor], t_feature: list[Tensor]
    ) -> Tensor:
        """From lists of maps (N, C, H, W), equal shapes, to a scalar."""
        total = sum(
            hierarchical_context(mine.float(), other.detach().float())
            for mine, other in zip(s_feature, t_feature, strict=True)
        )
        return self.loss_weight * total


def hierarchical_context(mine: Tensor, other: Tensor) -> Tensor:
    """Weighted mean of squared differences at several resolutions.

    Args:
        mine: (N, C, H, W) float32.
        other: (N, C, H, W) float32.

    Returns:
        Float32 scalar.
    """
    value, weight, total = F.mse_loss(mine, other), 1.0, 1.0
    for size in (4, 2, 1):
        if size >= min(mine.shape[2:]):
            continue
        weight /= 2
        total += weight
        # pooling is linear: pool the difference
        pooled = resize_map(mine - other, (size, size))
        value = value + weight * pooled.square().mean()
    return value / total


@MODELS.register_module()
class SemCKDLoss(DistillLoss):
    """Cross-layer distillation with semantic calibration, Chen et al.

    ``1 / (N S) * sum_{i,s,t} a[i,s,t] * mean (P_st(f_s)_i - f_t,i)^2`` over
    images, student stages and teacher stages. ``P_st`` projects a student
    stage to the shape of a teacher stage; ``a`` is, over the teacher stages,
    the softmax of how alike image ``i`` is to the rest of the batch in
    either stage: the cosine of row ``i`` of ``F_s F_s^T`` and of
    ``F_t F_t^T``, over ``tau``.

    The paper puts a learned layer on these rows, whose width is the batch
    size: it fails on a last, smaller batch and hears the order of the
    images. Here the rows are compared themselves, and no gradient flows
    through ``a``, so that the loss does not fall by looking at the easiest
    stage. Maps after a ReLU have no negative similarity, so the cosines lie
    near 1 and the paper's temperature of 1 would weigh all stages alike: at
    0.1 the weights of four stages go from about a tenth to a third. The
    projections are the authors' 1x1, 3x3, 1x1 convolutions with BatchNorm,
    but ``channels`` wide inside, not twice the teacher's width.

    Args:
        tau: temperature of the attention, > 0; the paper has 1 behind its
            learned layer.
        channels: width inside the projections, >= 1.
        gather: compare with the images of all processes.
        loss_weight: factor on the returned scalar.

    Raises:
        UserError: a value is out of its range.
    """

    family = 'feature'
    source = 'Chen et al., arXiv 2012.03236 (SemCKD), equations 4-9'
    fails = (
        'It projects every stage to every other: the dearest feature method '
        'here. The attention comes from few images and is noise in batches '
        'under 16.'
    )
    features = 'maps'
    aligned = False
    over_batch = True
    minimum_at_teacher = False  # learned projections lie between the maps
    smallest_batch = 16
    recommended_range = dict(tau=(0.01, 1))

    def __init__(
        self,
        tau: float = 0.1,
        channels: int = 128,
        gather: bool = False,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        self.require(tau > 0, 'tau', tau, '> 0; usual is 0.1')
        self.require(channels >= 1, 'channels', channels, '>= 1')
        self.tau, self.channels, self.gather = tau, channels, gather
        self.project = nn.ModuleList()

    def build(
        self,
        student_shape: list[tuple[int, ...]],
        teacher_shape: list[tuple[int, ...]],
    ) -> None:
        """Create a projection for each pair of (N, C, H, W)."""
        self.project.extend(
            nn.ModuleList(
                _projection(mine[1], self.channels, other[1])
                for other in teacher_shape
            )
            for mine in student_shape
        )

    def forward(
        self, s_feature: list[Tensor], t_feature: list[Tensor]
    ) -> Tensor:
        """From lists of maps, in any shapes, to a float32 scalar."""
        assert self.project, 'build() comes before the first use'
        mine = [x.float() for x in s_feature]
        others = [x.detach().float() for x in t_feature]
        if self.gather:
            mine, others = (
                [gather_batch(x) for x in maps] for maps in (mine, others)
            )
        total = 0.0
        with torch.no_grad():
            weights = attention(mine, others, self.tau)
        for s, own in enumerate(mine):
            for t, other in enumerate(others):
                resized = resize_map(own, other.shape[2:])
                projected = self.project[s][t](resized).float()
                distance = (projected - other).square().mean((1, 2, 3))
                total = total + (weights[:, s, t] * distance).mean()
        return self.loss_weight * total / len(mine)


def attention(mine: list[Tensor], others: list[Tensor], tau: float) -> Tensor:
    """How much each student stage listens to each teacher stage.

    Args:
        mine: maps (N, ...) of the S student stages.
        others: maps (N, ...) of the T teacher stages.
        tau: temperature, > 0.

    Returns:
        (N, S, T) float32, with sum 1 over T.
    """
    with torch.autocast(mine[0].device.type, enabled=False):
        rows_s, rows_t = (
            torch.stack([_similarity(x) for x in maps], dim=1)
            for maps in (mine, others)
        )
        return F.softmax(rows_s @ rows_t.transpose(1, 2) / tau, dim=2)


def _similarity(feature: Tensor) -> Tensor:
    """Rows of ``F F^T``, each of norm 1: (N, N) of (N, ...)."""
    # the scale of a stage cancels out, and would overflow in half precision
    flat = feature.float().flatten(1)
    flat = flat / flat.abs().amax().clamp(min=1e-12)
    return F.normalize(flat @ flat.T, dim=1)


def _projection(channels: int, width: int, target: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, target, 1),
    )
