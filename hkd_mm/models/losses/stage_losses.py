# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Losses of generated and fused maps: ReviewKD, SemCKD, MGD."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hkd_mm.models.arguments import Count, Fraction, NotNegative, Positive, Share
from hkd_mm.models.connectors.feature_align_connector import (
    Shape,
    conv_norm_relu,
    resize_map,
)
from hkd_mm.models.connectors.mgd_connectors import Activation, HFMaskConnector
from hkd_mm.models.losses.distill_loss import BatchLoss, DistillLoss, full_precision
from hkd_mm.registry import MODELS


@MODELS.register_module()
class ReviewKDLoss(DistillLoss):
    """Hierarchical context loss (HCL) of ReviewKD, summed over the stages.

    A stage's loss is the mean squared difference of its maps as they are and pooled to
    4 x 4, 2 x 2 and 1 x 1 cells, where that is fewer, weighted by 1, 1/2, 1/4, 1/8. The
    student's maps come through :class:`ReviewKDConnector`, named like the loss.
    """

    family = 'feature'
    source = 'Chen et al., arXiv 2104.09044 (ReviewKD), section 3'
    fails = (
        'Squared differences of plain activations: a teacher with large activations '
        'drowns the label loss at the start, so the authors warm the weight up.'
    )
    features = 'maps'

    def forward(self, s_feature: list[Tensor], t_feature: list[Tensor]) -> Tensor:
        stages = zip(s_feature, t_feature, strict=True)
        return self.loss_weight * sum(hierarchical_context(*maps) for maps in stages)


def hierarchical_context(mine: Tensor, other: Tensor) -> Tensor:
    """Weighted mean of squared differences of maps at several resolutions."""
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
class SemCKDLoss(BatchLoss):
    """Cross-layer distillation with semantic calibration, Chen et al.

    ``1 / (N S) * sum_{i,s,t} a[i,s,t] * mean (P_st(f_s)_i - f_t,i)^2`` over images,
    student stages and teacher stages. ``P_st`` projects a student stage to the shape of
    a teacher stage; ``a`` is, over the teacher stages, the softmax of how similar image
    ``i`` is to the rest of the batch in either stage: the cosine of row ``i`` of
    ``F_s F_s^T`` and of ``F_t F_t^T``, over ``tau``.

    The paper puts a learned layer on these rows, whose width is the batch size: it
    fails on a last, smaller batch and hears the order of the images. Here the rows are
    compared themselves, and no gradient flows through ``a``. After a ReLU the cosines
    lie near 1 and the paper's temperature of 1 would weigh all stages equally: at 0.1
    the weights of four stages go from about a tenth to a third. The projections are the
    authors' 1x1, 3x3, 1x1 convolutions with BatchNorm, but ``channels`` wide inside.
    """

    family = 'feature'
    source = 'Chen et al., arXiv 2012.03236 (SemCKD), equations 4-9'
    fails = (
        'It projects every stage to every other: the dearest feature method here. The '
        'attention comes from few images and is noise in batches under 16.'
    )
    features = 'maps'
    aligned = False
    minimum_at_teacher = False  # learned projections lie between the maps
    smallest_batch = 16
    recommended_range = dict(tau=(0.01, 1))

    # temperature of the attention; the paper has 1 behind its learned layer
    tau: Positive = 0.1
    channels: Count = 128  # width inside the projections

    def build(self, student_shape: list[Shape], teacher_shape: list[Shape]) -> None:
        self.project = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(
                    *conv_norm_relu(mine[1], self.channels, 1),
                    *conv_norm_relu(self.channels, self.channels, 3),
                    nn.Conv2d(self.channels, other[1], 1),
                )
                for other in teacher_shape
            )
            for mine in student_shape
        )

    def forward(self, s_feature: list[Tensor], t_feature: list[Tensor]) -> Tensor:
        mine, others = self.gathered(*s_feature), self.gathered(*t_feature)
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
    """Weights (N, S, T), of sum 1, of T teacher stages for each of S student stages."""
    with full_precision(mine[0]):
        rows = []
        for maps in (mine, others):  # rows of F F^T, whose scale cancels out
            flat = (x.flatten(1) / x.abs().amax().clamp(min=1e-12) for x in maps)
            rows.append(torch.stack([F.normalize(x @ x.T, dim=1) for x in flat], dim=1))
        return F.softmax(rows[0] @ rows[1].transpose(1, 2) / tau, dim=2)


@MODELS.register_module()
class MGDLoss(DistillLoss):
    """Masked generative distillation of Yang et al., the loss itself.

    ``mean (g - t)^2``: what :class:`MGDConnector` has generated from the masked student
    map against the teacher's map. The paper sums over the map: its weight of 7e-5 is
    ``7e-5 C H W`` of the mean, 1.756 for its 512 x 7 x 7. mmrazor's sends a gradient
    into the teacher's map and has no ``loss_weight``.
    """

    family = 'feature'
    source = 'Yang et al., arXiv 2205.01529 (MGD), equations 2-5'
    fails = (
        'The generation block may do the work that the student should learn; its part '
        'often hardly moves the student (DistillDiagnosticsHook shows it).'
    )
    features = 'map'

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        return self.loss_weight * F.mse_loss(s_feature, t_feature)


@MODELS.register_module()
class MGDHFLoss(DistillLoss):
    """First stage of DSP-KD: MGD under the hierarchical fusion mask.

    ``alpha * mean (g - t)^2 + beta * mean (f(s) - t)^2`` on the last map: ``g``
    generated by :class:`HFMaskConnector`, which this loss owns, ``f(s)`` the aligned
    student map (the paper's ``L_orig``). The paper states neither ``alpha`` nor the
    factor on ``L_orig``; both are MGD's, on the mean (:class:`MGDLoss`).
    """

    family = 'feature'
    source = 'Zeng et al., Bioengineering 2024, 11, 70 (DSP-KD), eq. 1-5'
    fails = (
        'The mask hides what the teacher looks at, also where that is a ruler or a '
        'hair; on maps of few cells the threshold masks nearly all or nearly nothing.'
    )
    features = 'maps'
    aligned = False
    minimum_at_teacher = False  # learned layers lie between the two maps
    recommended_range = dict(alpha=(0.01, 100))  # weights of sums are far below

    alpha: Positive = 1.756  # factor on the generated map
    beta: NotNegative = 1.756  # factor on the aligned map
    # attention from which on a place is masked
    phi: Fraction = 0.5
    fusion: Share = 0.5  # share of a level's own attention
    activation: Activation = 'gelu'

    def __post_init__(self) -> None:
        super().__post_init__()
        self.mask = HFMaskConnector(self.phi, self.fusion, self.activation)

    def build(self, student_shape: list[Shape], teacher_shape: list[Shape]) -> None:
        self.mask.build(student_shape[-1], teacher_shape[-1])

    def forward(
        self, s_feature: list[Tensor], t_feature: list[Tensor]
    ) -> dict[str, Tensor]:
        generated, aligned = self.mask(s_feature[-1], t_feature)
        target = t_feature[-1]
        parts = dict(loss_generated=self.alpha * F.mse_loss(generated.float(), target))
        if self.beta:
            parts['loss_aligned'] = self.beta * F.mse_loss(aligned.float(), target)
        return self.scaled(**parts)
