# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Contrastive representation distillation."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hkd_mm.models.arguments import Count, Positive, Whole
from hkd_mm.models.connectors.feature_align_connector import Shape
from hkd_mm.models.losses.distill_loss import BatchLoss, full_precision
from hkd_mm.models.losses.relation_losses import unit
from hkd_mm.registry import MODELS


def contrast(similarity: Tensor, negative: Tensor, level: Tensor) -> Tensor:
    """The critic's loss of N anchors, equation (18), mean over the anchors.

    ``h = e^z / (e^z + n E)`` with z the similarity, n the negatives of the
    anchor and E the typical size of e^z;
    ``-log h(positive) - sum over the negatives of log(1 - h)``.

    Args:
        similarity: (N, K), float32, of anchor i and other j; others 0 to
            N - 1 are the anchors' positives in order.
        negative: (N, K), bool; other j is a negative of anchor i.
        level: log E, a scalar.
    """
    count = negative.sum(1, keepdim=True).clamp_min(1)
    margin = similarity - torch.log(count) - level
    positive = F.softplus(-margin.diagonal()).sum()
    others = (F.softplus(margin) * negative).sum()
    return (positive + others) / len(similarity)


@MODELS.register_module()
class CRDLoss(BatchLoss):
    """Contrastive representation distillation, equation (18).

    A learned linear layer a network takes its features to ``dimensions``
    numbers, made a vector of length 1; a critic tells the pair (student,
    teacher) of one image from pairs of images of different classes. Once with
    the student and once with the teacher as the anchor, the two are added.

    The paper draws its negatives from a memory with the vectors of every training
    image. Here they are the other images of the batch and, with ``queue``, those of the
    last batches, with the vectors they had then: equation (18) with another n, so
    another weight is due where n differs much from the paper's 16384.

    Equation (19) divides by n / M, with M the size of the data set: a batch would begin
    in the thousands. The authors' code, which the ``loss_weight`` of 0.8 belongs to,
    first divides e^z by M times its mean E over the first batch, so that M falls out:
    ``h = e^z / (e^z + n E)``. So does this; E of either direction is kept with the
    weights. mmrazor's ``CRDLoss`` ignores its ``loss_weight``.
    """

    family = 'relation'
    source = 'Tian et al., arXiv 1910.10699, equation (18)'
    fails = (
        'With few negatives, as in small batches or where one class has most '
        'images, the critic has an easy task and the student learns little.'
    )
    features = 'vector'
    aligned = False
    minimum_at_teacher = False
    smallest_batch = 32
    recommended_range = dict(tau=(0.02, 1))

    tau: Positive = 0.1  # temperature of the similarity; the paper has 0.1
    dimensions: Count = 128  # length of the vectors; the paper has 128
    queue: Whole = 0  # images kept of earlier batches

    def __post_init__(self) -> None:
        super().__post_init__()
        for side in 'ST':
            past = torch.zeros(self.queue, self.dimensions)
            self.register_buffer(f'past_{side}', past)
            self.register_buffer(f'level_{side}', torch.tensor(torch.nan))
        # an empty place has the label -1 and is nobody's negative
        self.register_buffer('past_labels', torch.full((self.queue,), -1))

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        self.embed_S, self.embed_T = (
            nn.Linear(math.prod(shape[1:]), self.dimensions)
            for shape in (student_shape, teacher_shape)
        )

    def forward(
        self, preds_S: Tensor, gt_labels: Tensor, s_feature: Tensor, t_feature: Tensor
    ) -> Tensor:
        # refuses a label out of range, which an image of no class would be
        F.cross_entropy(preds_S.detach(), gt_labels)
        with full_precision(s_feature):
            mine = unit(self.embed_S(s_feature.flatten(1)))
            other = unit(self.embed_T(t_feature.flatten(1)))
            mine, other, gt_labels = self.gathered(mine, other, gt_labels)
            total = self._from(mine, other, 'T', gt_labels)
            total = total + self._from(other, mine, 'S', gt_labels)
        if self.training and self.queue:
            batch = dict(past_S=mine, past_T=other, past_labels=gt_labels)
            for name, new in batch.items():
                row = torch.cat([new.detach(), getattr(self, name)])
                setattr(self, name, row[: self.queue].clone())
        return self.loss_weight * total

    def _from(
        self, anchors: Tensor, others: Tensor, side: str, labels: Tensor
    ) -> Tensor:
        """One direction: anchors of one network, all others of the other."""
        past = getattr(self, f'past_{side}')
        known = torch.cat([labels, self.past_labels])
        negative = (labels[:, None] != known) & (known >= 0)
        similarity = anchors @ torch.cat([others, past]).T / self.tau
        kept = getattr(self, f'level_{side}')
        pairs = negative.clone()
        pairs.diagonal().fill_(True)
        found = similarity.detach().masked_fill(~pairs, -torch.inf).flatten()
        found = torch.logsumexp(found, 0) - torch.log(pairs.sum())
        level = torch.where(kept.isnan(), found, kept)  # of the first batch
        if self.training:
            kept.copy_(level)
        return contrast(similarity, negative, level)
