# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Correlations between classes and samples: DIST and MLKD."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from hkd_mm.models.arguments import Fraction, NotNegative, Positive
from hkd_mm.models.losses.distill_loss import BatchLoss, full_precision
from hkd_mm.models.losses.kd_losses import divergence, log_probabilities
from hkd_mm.registry import MODELS


@MODELS.register_module()
class DISTLoss(BatchLoss):
    r"""DIST of Huang et al.: relations in place of exact scores.

    With ``p = softmax(logits / tau)`` of both networks, (N, C), and Pearson's
    correlation rho::

        L_inter = mean_i (1 - rho(p_S[i, :], p_T[i, :]))
        L_intra = mean_c (1 - rho(p_S[:, c], p_T[:, c]))
        L = tau^2 * (beta * L_inter + gamma * L_intra)

    The published code and mmrazor's ``DISTLoss`` add 1e-8 to the product of the norms,
    by which a class that is improbable in the whole batch counts as unlike even where
    the networks agree. A correlation 0 / 0, as within a class for a batch of one, is 0.
    The authors' recipe has a ``loss_weight`` of 2.
    """

    family = 'response'
    source = 'Huang et al., arXiv 2205.10536, L_inter and L_intra'
    fails = (
        'The gradient grows as the student scores approach one constant, as '
        'those of a last layer that starts at zero do; with a small or '
        'one-class batch the samples within a class say little.'
    )
    soft_labels = True
    two_classes = (
        'the correlation of the classes within a sample (beta) is always 1 or -1 and '
        'teaches nothing; only the one of the samples within a class (gamma) is left'
    )

    tau: Positive = 1.0  # temperature; 1 in the paper for ImageNet, 4 for CIFAR-100
    beta: NotNegative = 1.0  # weight of the classes within a sample
    gamma: NotNegative = 1.0  # weight of the samples within a class

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        both = self.gathered(preds_S, preds_T)
        mine, other = (F.softmax(preds / self.tau, dim=1) for preds in both)
        inter = 1 - _correlation(mine, other, dim=1).mean()
        intra = 1 - _correlation(mine, other, dim=0).mean()
        total = self.beta * inter + self.gamma * intra
        return self.loss_weight * self.tau**2 * total


def _correlation(x: Tensor, y: Tensor, dim: int) -> Tensor:
    x, y = (a - a.mean(dim=dim, keepdim=True) for a in (x, y))
    return F.cosine_similarity(x, y, dim=dim, eps=1e-8)


@MODELS.register_module()
class MLKDLoss(BatchLoss):
    r"""Multi-level logit distillation of Jin et al., equations (2) to (8).

    Summed over the temperatures ``tau``, with ``p = softmax(z / tau)`` as a
    matrix (B, C):

    - instances: ``alpha * tau^2 * mean_i KL(p_T,i || p_S,i)``
    - batch: ``beta * mean_i sum_j (p_T p_T^t - p_S p_S^t)_ij^2``
    - classes: ``gamma * mean_k sum_l (p_T^t p_T - p_S^t p_S)_kl^2``

    The means run over uncertain samples ``i`` (teacher's confidence at tau 1 up to the
    median of the batch) and classes ``k`` (likewise the sum of their probabilities);
    the authors' code multiplies finished means by that mask, which only halves them.
    ``quantile=1`` chooses all, as the paper's equations.
    """

    family = 'response'
    source = 'Jin et al., CVPR 2023, Multi-level Logit Distillation, (2)-(8)'
    fails = (
        'small or uneven batches: the class level has few samples of each '
        'class, and its size grows with the square of the batch'
    )
    soft_labels = True
    smallest_batch = 16

    taus: Annotated[tuple[Positive, ...], Field(min_length=1)] = (2, 3, 4, 5, 6)
    alpha: NotNegative = 1.0  # weight of the instance level
    beta: NotNegative = 1.0  # weight of the batch level; its mean grows with B
    gamma: NotNegative = 1.0  # weight of the class level; it grows with B^2
    # share of the samples and classes that are chosen, the least confident first
    quantile: Fraction = 0.5

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> dict[str, Tensor]:
        student, teacher = self.gathered(preds_S, preds_T)
        instance = batch = between = 0.0
        with full_precision(student):
            confidence = F.softmax(teacher, dim=1)
            samples = self._chosen(confidence.amax(dim=1))
            classes = self._chosen(confidence.sum(dim=0))
            for tau in self.taus:
                log_S, log_T = (log_probabilities(x, tau) for x in (student, teacher))
                p_S, p_T = log_S.exp(), log_T.exp()
                instance += tau**2 * (samples @ divergence(log_S, log_T))
                batch += samples @ (p_T @ p_T.T - p_S @ p_S.T).square().sum(dim=1)
                between += classes @ (p_T.T @ p_T - p_S.T @ p_S).square().sum(dim=1)
        return self.scaled(
            loss_instance=self.alpha * instance,
            loss_batch=self.beta * batch,
            loss_classes=self.gamma * between,
        )

    def _chosen(self, confidence: Tensor) -> Tensor:
        """Weights (n,) that sum to 1: equal for the least confident."""
        bound = torch.quantile(confidence, self.quantile)
        mask = (confidence <= bound).float()
        return mask / mask.sum().clamp_min(1)
