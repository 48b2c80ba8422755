# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Relational knowledge distillation: distances of pairs, angles of triples."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hkd_mm.models.losses.relation_losses import (
    RelationLoss,
    unit,
    without_diagonal,
)
from hkd_mm.registry import MODELS


def relative_distances(vectors: Tensor) -> Tensor:
    """Distances of all pairs of (N, D) in units of their mean: (N, N - 1).

    Source: Park et al., arXiv 1904.05068, section 3.2.1. Computed
    from differences, not from products, so that near vectors are not lost
    to rounding; the gradient at equal vectors is zero. Row i is without its
    own i; zero where all vectors are equal.
    """
    pairs = without_diagonal(
        torch.cdist(
            vectors, vectors, compute_mode='donot_use_mm_for_euclid_dist'
        )
    )
    mean = pairs.sum() / max(pairs.numel(), 1)
    return pairs / mean.clamp_min(1e-12)


def distance_loss(s_feature: Tensor, t_feature: Tensor) -> Tensor:
    """Mean Huber loss between relative distances of (N, D) and (N, D').

    Zero for one sample, which has no pairs.
    """
    mine, other = relative_distances(s_feature), relative_distances(t_feature)
    return F.smooth_l1_loss(mine, other, reduction='sum') / max(
        mine.numel(), 1
    )


@MODELS.register_module()
class RKDDistanceLoss(RelationLoss):
    """Distance-wise relational distillation, section 3.2.1.

    The mean over the pairs of different samples of
    ``huber(d_S / mean(d_S), d_T / mean(d_T))``, with d the Euclidean
    distance. It is a mean over N (N - 1) pairs, where most code divides by
    N^2. mmrazor's ``DistanceWiseRKD`` brings every vector to length 1
    first, which the paper does not, and has NaN for a batch of one.

    Args:
        loss_weight: factor on the returned scalar; the paper has 25.
    """

    source = 'Park et al., arXiv 1904.05068, section 3.2.1'
    fails = (
        'In small batches the mean distance jumps from step to step, and with '
        'it the target.'
    )

    def compare(self, mine: Tensor, other: Tensor) -> Tensor:
        return distance_loss(mine, other)


_ELEMENTS = 2**24  # of the largest tensor held: 64 MiB of float32


def angle_loss(s_feature: Tensor, t_feature: Tensor) -> Tensor:
    """Mean Huber loss between the cosines of angles of (N, D) and (N, D').

    Source: Park et al., arXiv 1904.05068, section 3.2.2: the angle
    at j between the directions to i and to k, three different samples; zero
    for less than three samples. Large batches go vertex by vertex and are
    computed again in the backward pass, so neither N^3 cosines nor N^2 D
    differences are ever held.
    """
    n = len(s_feature)
    width = max(n, s_feature.size(1), t_feature.size(1))
    vertices = torch.arange(n, device=s_feature.device).split(
        max(_ELEMENTS // (n * width), 1)
    )
    if len(vertices) == 1:
        total = _at_vertices(s_feature, t_feature, vertices[0])
    else:
        total = sum(
            checkpoint(
                _at_vertices, s_feature, t_feature, part, use_reentrant=False
            )
            for part in vertices
        )
    return total / max(n * (n - 1) * (n - 2), 1)


def _at_vertices(
    s_feature: Tensor, t_feature: Tensor, vertices: Tensor
) -> Tensor:
    """Sum over all angles at some samples."""
    mine, other = (_cosines(x, vertices) for x in (s_feature, t_feature))
    # Directions to oneself are zero in both networks. What is left to take out
    # is the angle of a direction with itself.
    same = torch.eye(len(s_feature), dtype=torch.bool, device=mine.device)
    huber = F.smooth_l1_loss(mine, other, reduction='none')
    return huber.masked_fill(same, 0).sum()


def _cosines(vectors: Tensor, vertices: Tensor) -> Tensor:
    """(V, N, N): at each vertex, between the directions to i and to k."""
    directions = unit(vectors - vectors[vertices, None])
    return directions @ directions.transpose(1, 2)


@MODELS.register_module()
class RKDAngleLoss(RelationLoss):
    """Angle-wise relational distillation, section 3.2.2.

    The mean over the triples of different samples of
    ``huber(cos_S(i, j, k), cos_T(i, j, k))``. It is a mean over
    N (N - 1) (N - 2) triples, where most code divides by N^3. mmrazor's
    ``AngleWiseRKD`` brings every vector to length 1 first, which the paper
    does not, and holds all N^3 cosines and N^2 D differences.

    Args:
        loss_weight: factor on the returned scalar; the paper has 50.
    """

    source = 'Park et al., arXiv 1904.05068, section 3.2.2'
    fails = (
        'Of features in many dimensions nearly all angles are alike, 60 '
        'degrees, and say little.'
    )

    def compare(self, mine: Tensor, other: Tensor) -> Tensor:
        return angle_loss(mine, other)
