# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Relations between samples: SP, PKT, correlation congruence, RKD."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hkd_mm.models.arguments import Count, Positive
from hkd_mm.models.losses.distill_loss import BatchLoss, full_precision
from hkd_mm.registry import MODELS


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., D) of length 1; a zero vector stays zero.

    The gradient at a zero vector is zero, where that of
    ``torch.nn.functional.normalize`` is 1e12.
    """
    squared = vectors.square().sum(-1, keepdim=True)
    some = squared > torch.finfo(squared.dtype).tiny
    length = torch.where(some, squared, torch.ones_like(squared)).sqrt()
    return vectors * some / length


def safe_sqrt(value: Tensor) -> Tensor:
    """Square root of a tensor >= 0, with gradient zero where it is zero."""
    some = value > torch.finfo(value.dtype).tiny
    root = torch.where(some, value, torch.ones_like(value)).sqrt()
    return root * some


def without_diagonal(matrix: Tensor) -> Tensor:
    """The entries (N, N - 1) of a matrix (N, N) that pair different rows."""
    n = len(matrix)
    tail = matrix.flatten()[1:].reshape(n - 1, n + 1)
    return tail[:, :-1].reshape(n, n - 1)


class RelationLoss(BatchLoss):
    """A loss on the relations within a batch, of features of any widths.

    A child writes ``compare`` or ``relations``.
    """

    family = 'relation'
    features = 'vector'
    aligned = False

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        mine, other = self.gathered(s_feature.flatten(1), t_feature.flatten(1))
        with full_precision(mine):
            return self.loss_weight * self.compare(mine, other)

    def compare(self, mine: Tensor, other: Tensor) -> Tensor:
        """Mean squared difference of the relations of (N, D) and (N, D'), float32."""
        return (self.relations(mine) - self.relations(other)).square().mean()

    def relations(self, vectors: Tensor) -> Tensor:
        """(N, N) of vectors (N, D)."""
        raise NotImplementedError


@MODELS.register_module()
class SPLoss(RelationLoss):
    """Similarity-preserving distillation, section 2.1.

    ``1 / N^2 * ||G_T - G_S||_F^2`` with the rows of ``G = Q Q^T`` divided by their
    length, Q the flattened maps of a batch. The paper has a ``loss_weight`` of 3000.
    """

    source = 'Tung and Mori, arXiv 1907.09682, section 2.1'
    fails = (
        'After a ReLU all inner products are positive and alike, so little '
        'is left to match; the mean over N^2 pairs shrinks with the batch.'
    )
    features = 'last_map'

    def relations(self, vectors: Tensor) -> Tensor:
        return unit(vectors @ vectors.T)


def log_neighbours(vectors: Tensor) -> Tensor:
    """Log-probabilities (N, N - 1) of the others of (N, D) as neighbours.

    ``K(a, b) = (cos(a, b) + 1) / 2``, divided by its sum over the others. Row i is
    without its own i.
    """
    rows = unit(vectors)
    kernel = (without_diagonal(rows @ rows.T) + 1) / 2
    # the similarity of opposite vectors has no logarithm
    return F.log_softmax(kernel.clamp_min(1e-7).log(), dim=1)


@MODELS.register_module()
class PKTLoss(RelationLoss):
    """Probabilistic knowledge transfer, section 3.

    ``mean_i KL(t_i || s_i)``, where t_i and s_i are the probabilities of the
    other samples as neighbours of sample i. The paper sums over i, most code takes the
    mean over all N^2 entries, a sample as its own neighbour: a weight w is w / N here.
    """

    source = 'Passalis and Tefas, arXiv 1803.10837, section 3'
    fails = (
        'Vectors after a ReLU have similarities between 1/2 and 1: all '
        'neighbours are nearly equally likely, and the loss is tiny.'
    )
    smallest_batch = 16

    def compare(self, mine: Tensor, other: Tensor) -> Tensor:
        mine, other = log_neighbours(mine), log_neighbours(other)
        return torch.sum(other.exp() * (other - mine)) / len(mine)


@MODELS.register_module()
class CCLoss(RelationLoss):
    """Correlation congruence of a batch, section 3.

    ``1 / N^2 * ||K_T - K_S||_F^2`` with K the Gaussian kernel of unit
    vectors as a Taylor series. What RepDistiller and others call CC multiplies the
    differences of neighbours in the batch, and depends on the order of the samples.
    """

    source = 'Peng et al., arXiv 1904.01802, section 3'
    fails = (
        'In a batch of one frequent class the vectors are all alike, and so '
        'are the correlations; the paper samples classes evenly.'
    )

    gamma: Positive = 0.4  # width of the kernel; the paper has 0.4
    order: Count = 2  # highest power of the series; the paper has 2

    def relations(self, vectors: Tensor) -> Tensor:
        """``exp(-gamma ||x - y||^2) = exp(-2 gamma) exp(2 gamma x.y)`` of unit vectors,
        the second factor up to ``(x.y)^order``.
        """
        rows = unit(vectors)
        cosines = rows @ rows.T
        total = cosines * 0
        for power in range(self.order, -1, -1):  # Horner's scheme
            total = total * cosines + (2 * self.gamma) ** power / math.factorial(power)
        return math.exp(-2 * self.gamma) * total


def relative_distances(vectors: Tensor) -> Tensor:
    """Distances of all pairs of (N, D) in units of their mean: (N, N - 1).

    Row i is without its own i; zero where all vectors are equal, as the gradient of
    equal ones.
    """
    pairs = without_diagonal(
        torch.cdist(vectors, vectors, compute_mode='donot_use_mm_for_euclid_dist')
    )
    mean = pairs.sum() / max(pairs.numel(), 1)
    return pairs / mean.clamp_min(1e-12)


def distance_loss(s_feature: Tensor, t_feature: Tensor) -> Tensor:
    """Mean Huber loss between relative distances of (N, D) and (N, D'); 0 for N = 1."""
    mine, other = relative_distances(s_feature), relative_distances(t_feature)
    return F.smooth_l1_loss(mine, other, reduction='sum') / max(mine.numel(), 1)


@MODELS.register_module()
class RKDDistanceLoss(RelationLoss):
    """Distance-wise relational distillation, section 3.2.1.

    The mean over the pairs of different samples of
    ``huber(d_S / mean(d_S), d_T / mean(d_T))``, with d the Euclidean distance; most
    code divides by N^2. mmrazor's ``DistanceWiseRKD`` brings every vector to length 1
    first, and has NaN for a batch of one. The paper has a ``loss_weight`` of 25.
    """

    source = 'Park et al., arXiv 1904.05068, section 3.2.1'
    fails = (
        'In small batches the mean distance jumps from step to step, and with '
        'it the target.'
    )

    compare = staticmethod(distance_loss)


_ELEMENTS = 2**24  # of the largest tensor held: 64 MiB of float32


def angle_loss(s_feature: Tensor, t_feature: Tensor) -> Tensor:
    """Mean Huber loss between the cosines of angles of (N, D) and (N, D').

    Source: Park et al., arXiv 1904.05068, section 3.2.2: the angle at j between the
    directions to i and to k, three different samples; zero for less than three samples.
    Neither N^3 cosines nor N^2 D differences are held: large batches go vertex by
    vertex and are computed again in the backward pass.
    """
    n = len(s_feature)
    width = max(n, s_feature.size(1), t_feature.size(1))
    vertices = torch.arange(n, device=s_feature.device)
    vertices = vertices.split(max(_ELEMENTS // (n * width), 1))
    again = partial(checkpoint, _at_vertices, use_reentrant=False)
    at = _at_vertices if len(vertices) == 1 else again
    total = sum(at(s_feature, t_feature, part) for part in vertices)
    return total / max(n * (n - 1) * (n - 2), 1)


def _at_vertices(s_feature: Tensor, t_feature: Tensor, vertices: Tensor) -> Tensor:
    directions = (unit(x - x[vertices, None]) for x in (s_feature, t_feature))
    mine, other = (x @ x.transpose(1, 2) for x in directions)  # (V, N, N) cosines
    # Directions to oneself are zero in both networks. What is left to take out
    # is the angle of a direction with itself.
    same = torch.eye(len(s_feature), dtype=torch.bool, device=mine.device)
    huber = F.smooth_l1_loss(mine, other, reduction='none')
    return huber.masked_fill(same, 0).sum()


@MODELS.register_module()
class RKDAngleLoss(RelationLoss):
    """Angle-wise relational distillation, section 3.2.2.

    The mean over the triples of different samples of
    ``huber(cos_S(i, j, k), cos_T(i, j, k))``; most code divides by N^3. mmrazor's
    ``AngleWiseRKD`` brings every vector to length 1 first, and holds all N^3 cosines
    and N^2 D differences. The paper has a ``loss_weight`` of 50.
    """

    source = 'Park et al., arXiv 1904.05068, section 3.2.2'
    fails = (
        'Of features in many dimensions nearly all angles are alike, 60 '
        'degrees, and say little.'
    )

    compare = staticmethod(angle_loss)
