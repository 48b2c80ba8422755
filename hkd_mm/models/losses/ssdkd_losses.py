# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""SSD-KD: dual relations and self-supervision on rotated images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hkd_mm.models.arguments import Count, NotNegative, Positive, Share
from hkd_mm.models.connectors.feature_align_connector import Shape, resize_map
from hkd_mm.models.losses.distill_loss import BatchLoss, full_precision
from hkd_mm.models.losses.kd_losses import soft_target_kl
from hkd_mm.models.losses.relation_losses import (
    angle_loss,
    distance_loss,
    safe_sqrt,
    unit,
)
from hkd_mm.registry import MODELS


def channel_difference(s_feature: Tensor, t_feature: Tensor) -> Tensor:
    """Root of the mean squared difference of two networks' Gram matrices.

    ``G = F F^T / (C P)`` of an image, F (C, P) its map with P places; the mean is over
    images and pairs of channels. The C x C matrices, of 2048 channels 16 MiB each, are
    never made: with ``U = F_S - F_T`` and ``V = F_S + F_T`` the difference is ``(U V^T
    + V U^T) / 2``, whose square takes P x P products only, and is exactly zero for
    equal maps. The gradient is finite there.
    """
    n, channels = s_feature.shape[:2]
    scale = s_feature[0].numel() ** -0.5
    mine, other = (x.flatten(2) * scale for x in (s_feature, t_feature))
    minus, plus = mine - other, mine + other
    crossed = minus.transpose(1, 2) @ plus
    squared = (
        (minus.transpose(1, 2) @ minus) * (plus.transpose(1, 2) @ plus)
        + crossed * crossed.transpose(1, 2)
    ).sum() / 2
    return safe_sqrt(squared.clamp_min(0) / (n * channels**2))


def least_wrong(scores: Tensor, target: Tensor, share: float) -> Tensor:
    """Mark the rows (N,) that are right, and a share of the wrong ones, rounded down.

    Source: Xu et al., arXiv 2006.07114, section 3.3: wrong answers are ranked by the
    rank of the true class, (N,) int64, among the scores, (N, C). Where ranks are equal,
    the one with the smaller gap to the best score comes first.
    """
    truth = scores.gather(1, target[:, None])
    rank = (scores > truth).sum(1)
    gap = scores.amax(1) - truth[:, 0]
    error = rank + gap / (1 + gap) * (rank > 0)
    wrong = (rank > 0).sum()
    kept = len(scores) - wrong + (share * wrong).floor()
    order = error.argsort().argsort()
    return torch.lt(order, kept)


@MODELS.register_module()
class SSDKDLoss(BatchLoss):
    """Soft targets and dual relations of SSD-KD, a method for skin images.

    ``alpha * KD + beta * (25 * RKD-D + 50 * RKD-A) + gamma * CR``: soft targets;
    relations between samples (distances and angles of the pooled maps); relations
    between channels, CR, the root of the mean squared difference of the Gram matrices,
    for which a learned 1x1 convolution with BatchNorm and ReLU takes the student's
    channels to the teacher's. The authors' code has NaN gradients where the matrices
    are equal; this one has zero. The part with rotated images is
    :class:`hkd_mm.SSDKDRotationLoss`, the label's is :class:`hkd_mm.HardLabelLoss` with
    ``class_weight``.
    """

    family = 'relation'
    source = 'Wang et al., Medical Image Analysis 84 (2023) 102693, section 3'
    fails = (
        'Four terms of very different size: their weights were tuned on one '
        'data set, and need it again on another.'
    )
    features = 'last_map'
    aligned = False
    minimum_at_teacher = False

    tau: Positive = 4.0  # temperature; the authors' code has 4, and 5 without rotations
    # weight of the soft targets; 0.9, and 0.5 without rotations
    alpha: NotNegative = 0.9
    beta: NotNegative = 1.0  # weight of the relations between samples
    gamma: NotNegative = 1000.0  # weight of the relations between channels

    @property
    def unused_inputs(self) -> tuple[str, ...]:
        return () if self.alpha else ('preds_S', 'preds_T')

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        if self.gamma:
            self.project = nn.Sequential(
                nn.Conv2d(student_shape[1], teacher_shape[1], 1, bias=False),
                nn.BatchNorm2d(teacher_shape[1]),
                nn.ReLU(),
            )

    def forward(
        self,
        s_feature: Tensor,
        t_feature: Tensor,
        preds_S: Tensor | None = None,
        preds_T: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Maps of any channels and size to the parts whose weight is not 0."""
        # all of it: BatchNorm looks at the batch as well
        mine, other = self.gathered(s_feature, t_feature)
        parts = {}
        with full_precision(s_feature):
            if self.alpha:
                kd = soft_target_kl(preds_S, preds_T, self.tau)
                parts['loss_kd'] = self.alpha * kd
            if self.beta:
                pooled = mine.mean((2, 3)), other.mean((2, 3))
                distance = 25 * self.beta * distance_loss(*pooled)
                parts['loss_distance'] = distance
                parts['loss_angle'] = 50 * self.beta * angle_loss(*pooled)
            if self.gamma:
                mine = self.project(resize_map(mine, other.shape[2:]))
                channel = channel_difference(mine, other)
                parts['loss_channel'] = self.gamma * channel
        return self.scaled(**parts)


@MODELS.register_module()
class SSDKDRotationLoss(BatchLoss):
    """The part of SSD-KD that learns from rotated images.

    Of every image the batch has four views, stacked by
    :class:`hkd_mm.RotationDistill`. Two parts, after Xu et al. (SSKD, arXiv
    2006.07114):

    - the teacher's soft targets for the rotated views;
    - the cosines between each rotated and every upright view, after a head
      of two layers a network, as softened probabilities of which upright view
      it is; the student's follow the teacher's.

    Of the teacher's wrong answers only the least wrong are followed. The
    authors train the teacher's head for 60 epochs first; here it learns
    beside the student, on detached features, by ``loss_head``.
    """

    family = 'relation'
    source = 'Wang et al., Medical Image Analysis 84 (2023) 102693, section 3'
    fails = (
        'Four times the images of a step, and angles between all of them; '
        'lesions have no upright side, so a network that sees rotated images '
        'in training has little to learn here.'
    )
    features = 'vector'
    aligned = False
    minimum_at_teacher = False
    smallest_batch = 32
    views = 4

    tau: Positive = 4.0  # temperature of the soft targets
    tau_similarity: Positive = 0.5  # temperature of the cosines
    alpha: NotNegative = 2.7  # weight of the soft targets of rotated views
    beta: Positive = 10.0  # weight of the similarities
    keep: Share = 1.0  # share of the teacher's wrong soft targets that is followed
    keep_similarity: Share = 0.75  # the same of its wrong similarities
    dimensions: Count = 128  # of the vectors that the heads make

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        self.head_S, self.head_T = (
            nn.Sequential(
                nn.Linear(shape[1], self.dimensions),
                nn.ReLU(),
                nn.Linear(self.dimensions, self.dimensions),
            )
            for shape in (student_shape, teacher_shape)
        )

    def forward(
        self,
        preds_S: Tensor,
        preds_T: Tensor,
        gt_labels: Tensor,
        s_feature: Tensor,
        t_feature: Tensor,
    ) -> dict[str, Tensor]:
        """From four views of N images, upright ones first: (4 N, C), (4 N,), ..."""
        with full_precision(preds_S):
            preds_S, preds_T, gt_labels, s_feature, t_feature = map(
                self._by_image, (preds_S, preds_T, gt_labels, s_feature, t_feature)
            )
            rotated = self._followed(
                preds_S[:, 1:].flatten(0, 1) / self.tau,
                preds_T[:, 1:].flatten(0, 1) / self.tau,
                gt_labels[:, :1].expand(-1, self.views - 1).flatten(),
                self.keep,
            )
            similarity, head = self._similarities(s_feature, t_feature)
        return self.scaled(
            loss_rotated=self.alpha * self.tau**2 * rotated,
            loss_similarity=self.beta * self.tau_similarity**2 * similarity,
            loss_head=head,
        )

    def _by_image(self, views: Tensor) -> Tensor:
        """(4 N, ...) to (N, 4, ...), gathered."""
        good = len(views) % self.views == 0
        expected = 'four views of each image; set model.type=hkd_mm.RotationDistill'
        self.require(good, 'batch', len(views), expected)
        images = views.unflatten(0, (self.views, -1)).transpose(0, 1)
        return self.gathered(images)[0]

    def _similarities(
        self, s_feature: Tensor, t_feature: Tensor
    ) -> tuple[Tensor, Tensor]:
        vectors = (unit(self.head_S(s_feature)), unit(self.head_T(t_feature)))
        mine, other = (  # cosines (3 N, N) of rotated with upright views
            x[:, 1:].flatten(0, 1) @ x[:, 0].T / self.tau_similarity for x in vectors
        )
        target = torch.arange(len(s_feature), device=mine.device)
        target = target.repeat_interleave(self.views - 1)
        followed = self._followed(mine, other.detach(), target, self.keep_similarity)
        return followed, F.cross_entropy(other, target)

    def _followed(
        self, mine: Tensor, other: Tensor, target: Tensor, keep: float
    ) -> Tensor:
        """Mean KL of the softened rows (M, K) that are followed."""
        log_p_S, log_p_T = mine.log_softmax(1), other.log_softmax(1)
        rows = (log_p_T.exp() * (log_p_T - log_p_S)).sum(1)
        followed = least_wrong(other, target, keep)
        return (rows * followed).sum() / followed.sum().clamp_min(1)
