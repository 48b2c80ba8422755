# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Correlations between classes and samples: DIST and MLKD."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hkd_mm.models.losses.distill_loss import DistillLoss, gather_batch
from hkd_mm.registry import MODELS

_SMALLEST = 1e-8  # of a norm, which divides


@MODELS.register_module()
class DISTLoss(DistillLoss):
    r"""DIST of Huang et al.: relations in place of exact scores.

    With ``p = softmax(logits / tau)`` of both networks, (N, C), and Pearson's
    correlation rho::

        L_inter = mean_i (1 - rho(p_S[i, :], p_T[i, :]))
        L_intra = mean_c (1 - rho(p_S[:, c], p_T[:, c]))
        L = tau^2 * (beta * L_inter + gamma * L_intra)

    The smallest divisor bounds each norm; the published code and mmrazor's
    ``DISTLoss`` add 1e-8 to the product of the two, which makes a class that
    is improbable in the whole batch count as unlike even where the networks
    agree. Where a correlation is 0 / 0, as within a class for a batch of one,
    it counts as 0.

    Args:
        tau: temperature, > 0; 1 in the paper for ImageNet, 4 for CIFAR-100.
        beta: weight of the classes within a sample, >= 0.
        gamma: weight of the samples within a class, >= 0.
        loss_weight: factor on the returned scalar; 2 in the authors' recipe.
        gather: correlate the batch of all processes.

    Raises:
        UserError: a value is out of its range.
    """

    family = 'response'
    source = 'Huang et al., arXiv 2205.10536, L_inter and L_intra'
    fails = (
        'The gradient grows as the student scores approach one constant, as '
        'those of a last layer that starts at zero do; with a small or '
        'one-class batch the samples within a class say little.'
    )
    soft_labels = True
    over_batch = True
    two_classes = (
        'the correlation of the classes within a sample (beta) is always 1 '
        'or -1 and teaches nothing; only the one of the samples within a '
        'class (gamma) is left'
    )
    smallest_batch = 8

    def __init__(
        self,
        tau: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        loss_weight: float = 1.0,
        gather: bool = False,
    ) -> None:
        super().__init__(loss_weight)
        self.require(tau > 0, 'tau', tau, '> 0; the paper has 1 and 4')
        self.require(beta >= 0, 'beta', beta, '>= 0; customary is 1')
        self.require(gamma >= 0, 'gamma', gamma, '>= 0; customary is 1')
        self.tau, self.beta, self.gamma = tau, beta, gamma
        self.gather = gather

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """From logits (N, C), (N, C) to a float32 scalar."""
        preds_T = preds_T.detach()
        if self.gather:
            preds_S, preds_T = gather_batch(preds_S), gather_batch(preds_T)
        mine, other = (
            F.softmax(preds.float() / self.tau, dim=1)
            for preds in (preds_S, preds_T)
        )
        inter = 1 - _correlation(mine, other, dim=1).mean()
        intra = 1 - _correlation(mine, other, dim=0).mean()
        return (
            self.loss_weight
            * self.tau**2
            * (self.beta * inter + self.gamma * intra)
        )


def _correlation(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Pearson's along one dimension; 0 where either is constant."""
    x, y = (a - a.mean(dim=dim, keepdim=True) for a in (x, y))
    return F.cosine_similarity(x, y, dim=dim, eps=_SMALLEST)


@MODELS.register_module()
class MLKDLoss(DistillLoss):
    r"""Multi-level logit distillation of Jin et al., equations (2) to (8).

    Summed over the temperatures ``tau``, with ``p = softmax(z / tau)`` as a
    matrix (B, C):

    - instances: ``alpha * tau^2 * mean_i KL(p_T,i || p_S,i)``
    - batch: ``beta * mean_i sum_j (p_T p_T^t - p_S p_S^t)_ij^2``
    - classes: ``gamma * mean_k sum_l (p_T^t p_T - p_S^t p_S)_kl^2``

    The authors' code tells uncertain samples (teacher's confidence at tau 1
    up to the median of the batch) and classes (likewise the sum of their
    probabilities) from the others, but multiplies finished means by the mask,
    which only halves them. Here the means run over the chosen samples ``i``
    and classes ``k``; ``quantile=1`` chooses all, as the paper's equations.

    Args:
        taus: the temperatures, each > 0.
        alpha: weight of the instance level, >= 0.
        beta: weight of the batch level, >= 0; its mean grows with B.
        gamma: weight of the class level, >= 0; it grows with B^2.
        quantile: share of the samples and classes that are chosen, the least
            confident first, in (0, 1].
        loss_weight: factor on all three.
        gather: compare the samples of all processes.

    Raises:
        UserError: a value is out of its range.
    """

    family = 'response'
    source = 'Jin et al., CVPR 2023, Multi-level Logit Distillation, (2)-(8)'
    fails = (
        'small or uneven batches: the class level has few samples of each '
        'class, and its size grows with the square of the batch'
    )
    soft_labels = True
    over_batch = True
    smallest_batch = 16

    def __init__(
        self,
        taus: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        quantile: float = 0.5,
        loss_weight: float = 1.0,
        gather: bool = False,
    ) -> None:
        super().__init__(loss_weight)
        self.taus = tuple(taus)
        self.require(
            bool(self.taus) and all(tau > 0 for tau in self.taus),
            'taus',
            taus,
            'temperatures > 0; the paper has 2 to 6',
        )
        for name, value in dict(alpha=alpha, beta=beta, gamma=gamma).items():
            self.require(value >= 0, name, value, '>= 0; the paper has 1')
        self.require(
            0 < quantile <= 1, 'quantile', quantile, 'in (0, 1]; 1 takes all'
        )
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.quantile, self.gather = quantile, gather

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> dict[str, Tensor]:
        """The three levels.

        Args:
            preds_S: student logits (N, C).
            preds_T: teacher logits (N, C); no gradient flows into them.

        Returns:
            ``loss_instance``, ``loss_batch``, ``loss_class``: float32
            scalars, times their weights.
        """
        student, teacher = preds_S.float(), preds_T.detach().float()
        if self.gather:
            student, teacher = gather_batch(student), gather_batch(teacher)
        with torch.autocast(student.device.type, enabled=False):
            levels = self._levels(student, teacher)
        weights = (self.alpha, self.beta, self.gamma)
        return {
            f'loss_{name}': self.loss_weight * weight * level
            for name, weight, level in zip(
                ('instance', 'batch', 'class'), weights, levels
            )
        }

    def _levels(self, student: Tensor, teacher: Tensor) -> list[Tensor]:
        """Instances, batch and classes, summed over the temperatures."""
        confident = F.softmax(teacher, dim=1)
        samples = self._chosen(confident.amax(dim=1))
        classes = self._chosen(confident.sum(dim=0))
        found = []
        for tau in self.taus:
            log_S = F.log_softmax(student / tau, dim=1)
            log_T = F.log_softmax(teacher / tau, dim=1)
            p_S, p_T = log_S.exp(), log_T.exp()
            divergence = F.kl_div(
                log_S, log_T, reduction='none', log_target=True
            ).sum(dim=1)
            batch = (p_T @ p_T.T - p_S @ p_S.T).square().sum(dim=1)
            between = (p_T.T @ p_T - p_S.T @ p_S).square().sum(dim=1)
            found.append(
                [
                    tau**2 * (samples * divergence).sum(),
                    (samples * batch).sum(),
                    (classes * between).sum(),
                ]
            )
        return [sum(level) for level in zip(*found)]

    def _chosen(self, confidence: Tensor) -> Tensor:
        """Weights (n,) that sum to 1: equal for the least confident."""
        bound = torch.quantile(confidence, self.quantile)
        mask = (confidence <= bound).float()
        return mask / mask.sum().clamp_min(1)
