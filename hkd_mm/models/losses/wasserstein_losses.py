# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Wasserstein distances in place of KL: WKD on scores and on features."""

from collections.abc import Iterator
from itertools import product
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from hkd_mm.models.arguments import Count, NotNegative, Positive
from hkd_mm.models.connectors.feature_align_connector import check_maps
from hkd_mm.models.losses import kd_losses
from hkd_mm.models.losses.distill_loss import DistillLoss, full_precision
from hkd_mm.models.recorders.network_recorders import last_layer
from hkd_mm.registry import MODELS

_LEAST_VARIANCE = 1e-5  # added to that of a cell
_ROUNDS = 20  # twice: from a regularization of 1 down, and at the last one


def transport(q: Tensor, p: Tensor, cost: Tensor, regularization: float) -> Tensor:
    """Sinkhorn divergence (N,) between rows of (N, C) under a cost (C, C), >= 0.

    The entropic optimal transport cost without its bias, ``W(q, p) - W(q, q) / 2 -
    W(p, p) / 2``, Feydy et al., arXiv 1810.08278: 0 at equal rows, and the exact cost
    as ``regularization`` goes to 0. The gradient into ``q`` is that of the converged
    potentials, so no round is kept in memory.
    """
    with torch.no_grad(), full_precision(q):
        rows, columns = torch.cat([q, q, p]), torch.cat([p, q, p])
        f = g = torch.zeros_like(rows)
        falling = torch.logspace(0, 1, _ROUNDS, base=regularization).tolist()
        for eps in falling + [regularization] * _ROUNDS:
            kernel = (-cost / eps).exp()
            f = -eps * ((columns * (g / eps).exp()) @ kernel.T).log()
            g = -eps * ((rows * (f / eps).exp()) @ kernel).log()
        (f_qp, f_qq, f_pp), (g_qp, g_qq, g_pp) = f.chunk(3), g.chunk(3)
    mine, other = f_qp - (f_qq + g_qq) / 2, g_qp - (f_pp + g_pp) / 2
    return (mine * q + other * p).sum(dim=1)


@MODELS.register_module()
class WKDLogitLoss(DistillLoss):
    r"""WKD-L of Lv et al.: what it costs to move the student's belief to the teacher's.

    ``alpha * mean_i -p_y log q_y + beta * mean_i W(q', p')``, the first part at
    temperature 1, ``q'`` and ``p'`` the probabilities among the classes that are not
    the label, at ``tau``, without ``tau^2``. Moving a share of probability from class j
    to k costs ``1 - exp(-sharpness * (1 - cos(W_j, W_k)))``, ``W`` the rows of the
    teacher's last layer: to mistake a class for a similar one costs little.

    The authors stop Sinkhorn's rounds at 10, with which the transport is hardly
    computed between unlike classes (0.00006 for 0.25), and take the cost from a pass
    over the training images that depends on their order; their code has this one too.
    They let ``beta`` fall to 0 over the training: :class:`hkd_mm.LossScheduleHook`.
    """

    family = 'response'
    source = 'Lv et al., arXiv 2412.08139 (WKD-L)'
    fails = (
        'With few classes there is little to move: three leave a difference of two '
        'numbers, and where all classes are equally unlike it is the total variation.'
    )
    minimum_at_teacher = False  # -p_y log q_y wants q_y = 1
    two_classes = (
        'there is but one class besides the label, so the transport (beta) is 0; what '
        'is left is a weighted cross-entropy'
    )
    recommended_range = dict(tau=(1, 20), regularization=(0.02, 0.2))

    tau: Positive = 2.0  # 8 or 6 in the paper for CIFAR-100
    alpha: NotNegative = 1.0  # weight of the target part
    beta: NotNegative = 30.0  # weight of the transport; 200 - 600 for CIFAR-100
    sharpness: Positive = 1.0  # of the cost
    # entropy of the transport; less is too small for float32
    regularization: Annotated[float, Field(ge=0.02, lt=1)] = 0.05

    def attach(self, student: nn.Module, teacher: nn.Module) -> None:
        rows = F.normalize(last_layer(teacher, self).weight.detach().float(), dim=1)
        cost = -torch.expm1(self.sharpness * (rows @ rows.T - 1).clamp(max=0))
        self.register_buffer('_cost', cost.fill_diagonal_(0), persistent=False)

    def forward(
        self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor
    ) -> dict[str, Tensor]:
        target = kd_losses.target_mask(preds_S, gt_labels)
        both = preds_S, preds_T
        log_q, log_p = (kd_losses.log_probabilities(z, 1.0)[target] for z in both)
        rest = (
            kd_losses.non_target_log_probabilities(z, target, self.tau).exp() * ~target
            for z in (preds_S, preds_T)
        )
        moved = transport(*rest, self._cost, self.regularization)
        return self.scaled(
            loss_target=-self.alpha * (log_p.exp() * log_q).mean(),
            loss_transport=self.beta * moved.mean(),
        )


@MODELS.register_module()
class WKDFeatureLoss(DistillLoss):
    r"""WKD-F of Lv et al.: maps as Gaussians, the distance of their moments.

    ``mean over images, cells and channels of (ratio * (mu_S - mu_T)^2 + (sd_S -
    sd_T)^2)``, mean and standard deviation over the pixels of a cell: the squared
    Wasserstein distance of Gaussians with diagonal covariance, its first part times
    ``ratio``. Where something is seen within a cell says nothing. The authors sum over
    the channels, and have no number for cells of one pixel: a weight w there is ``w C``
    of the teacher's channels here.
    """

    family = 'feature'
    source = 'Lv et al., arXiv 2412.08139 (WKD-F)'
    fails = (
        'Maps of few pixels, as behind images of 64 x 64, have moments that are mostly '
        'noise; what lies where is lost.'
    )
    features = 'last_map'

    ratio: NotNegative = 2.0  # weight of the means; 2 - 8 in the paper
    grid: Count = 1  # cells a side; 4 in the paper for maps of 7 x 7

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        check_maps('WKDFeatureLoss', s_feature.shape, t_feature.shape)
        total = 0.0
        for cells in zip(*(self._cells(x) for x in (s_feature, t_feature))):
            pixels = cells[0].shape[-1]
            self.require(pixels > 1, 'grid', self.grid, 'less: a cell has one pixel')
            variances, means = zip(*(torch.var_mean(x, dim=2) for x in cells))
            deviations = ((x + _LEAST_VARIANCE).sqrt() for x in variances)
            total = total + self.ratio * F.mse_loss(*means) + F.mse_loss(*deviations)
        return self.loss_weight * total / self.grid**2

    def _cells(self, feature: Tensor) -> Iterator[Tensor]:
        """Maps (N, C, H, W) as grid^2 times (N, C, pixels); cells may overlap."""
        grid = self.grid
        rows, columns = (
            [slice(i * n // grid, -(-(i + 1) * n // grid)) for i in range(grid)]
            for n in feature.shape[2:]
        )
        for row, column in product(rows, columns):
            yield feature[:, :, row, column].flatten(2)
