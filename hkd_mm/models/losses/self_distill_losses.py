# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Losses without a second network: BYOT, Tf-KD, USKD."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from hkd_mm.models.arguments import NotNegative, Positive, Share
from hkd_mm.models.connectors.feature_align_connector import (
    Shape,
    conv_norm_relu,
    resize_map,
)
from hkd_mm.models.losses.distill_loss import BatchLoss, ClassWeight, DistillLoss
from hkd_mm.models.losses.kd_losses import kl_of_samples, soft_target_kl
from hkd_mm.models.recorders.network_recorders import last_layer
from hkd_mm.registry import MODELS


@MODELS.register_module()
class BYOTLoss(DistillLoss):
    r"""Self-distillation of Zhang et al., ICCV 2019, equations (2) to (5).

    Each stage but the last gets a bottleneck to the shape of the deepest map
    and a linear classifier of its own. Summed over these stages ``m``:

    - ``(1 - alpha) * CE(q_m, y)``, times the weight of the label's class
    - ``alpha * tau^2 * KL(softmax(s / tau) || softmax(q_m / tau))``
    - ``beta * mean (F_m - F_deepest)^2``

    The network's own scores ``s`` and its deepest map teach and are detached; the
    label's term trains them. The classifiers are parameters of this loss, not of the
    network. The paper sums over a map's values, where this takes the mean.
    """

    family = 'self'
    source = 'Zhang et al., ICCV 2019, arXiv 1905.08094, (2)-(5)'
    fails = (
        'small networks: the shallow stages are made to classify with '
        'features that the deeper ones still need as they are'
    )
    features = 'maps'
    aligned = False
    soft_labels = True
    recommended_range = dict(tau=(1, 20), beta=(0, 10))
    minimum_at_teacher = False

    alpha: Share = 0.3  # share of the deepest classifier against the label
    beta: NotNegative = 0.03  # weight of the deepest map
    tau: Positive = 3.0
    class_weight: ClassWeight = None  # one weight a class, of the cross-entropy

    def attach(self, student: nn.Module, teacher: nn.Module | None) -> None:
        self._classes = last_layer(student, self).out_features

    def build(self, student_shape: list[Shape]) -> None:
        good = len(student_shape) > 1
        self.require(good, 's_feature', student_shape, 'maps of two stages or more')
        *stages, deepest = (shape[1] for shape in student_shape)
        self.branches = nn.ModuleList(
            _Branch(channels, deepest, self._classes) for channels in stages
        )

    def forward(
        self, preds_S: Tensor, gt_labels: Tensor, s_feature: list[Tensor]
    ) -> dict[str, Tensor]:
        """From logits, labels, maps (shallow to deep) to the three parts."""
        deepest = s_feature[-1].detach()
        label = self_ = hint = 0
        for branch, stage in zip(self.branches, s_feature[:-1], strict=True):
            logits, like_deepest = branch(stage, deepest.shape[2:])
            label = label + self.cross_entropy(logits, gt_labels)
            self_ = self_ + soft_target_kl(logits, preds_S, self.tau)
            hint = hint + F.mse_loss(like_deepest.float(), deepest)
        return self.scaled(
            loss_label=(1 - self.alpha) * label,
            loss_self=self.alpha * self_,
            loss_hint=self.beta * hint,
        )


class _Branch(nn.Module):
    def __init__(self, channels: int, deepest: int, classes: int) -> None:
        super().__init__()
        middle = max(1, deepest // 4)
        self.reduce = nn.Sequential(*conv_norm_relu(channels, middle, 1))
        self.mix = nn.Sequential(*conv_norm_relu(middle, middle, 3))
        self.expand = nn.Sequential(
            nn.Conv2d(middle, deepest, 1, bias=False), nn.BatchNorm2d(deepest)
        )
        self.classify = nn.Linear(deepest, classes)

    def forward(self, feature: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Scores (N, classes) and a map (N, deepest, *size)."""
        feature = resize_map(self.reduce(feature), size)
        feature = self.expand(self.mix(feature))
        return self.classify(feature.mean(dim=(2, 3))), feature


@MODELS.register_module()
class TfKDLoss(DistillLoss):
    r"""Teacher-free KD by regularisation, Yuan et al., equations (8), (9).

    ``tau^2 * mean_i KL(p^d_tau || softmax(s_i / tau))``, where the virtual teacher
    ``p^d`` gives ``a`` to the label and ``(1 - a) / (C - 1)`` to each other class (8),
    softened as any teacher: the softmax of ``log p^d / tau``. The paper weighs it by
    alpha = 0.1 (``loss_weight``) and the cross-entropy by 1 - alpha. The factor
    ``tau^2`` is that of the paper's other variant, Tf-KD_self; the authors' code
    softens ``p^d`` as if it were scores, and not the student. ``p^d`` of mixed images
    is mixed likewise.
    """

    family = 'self'
    source = 'Yuan et al., CVPR 2020, arXiv 1909.11723, (8) and (9)'
    fails = (
        'where it matters which wrong classes are alike: the virtual teacher '
        'holds them all equal, much as label smoothing does'
    )
    soft_labels = True
    recommended_range = dict(tau=(1, 40), a=(0.8, 1))
    minimum_at_teacher = False

    a: Annotated[float, Field(gt=0, lt=1)] = 0.99  # probability of the label
    tau: Positive = 20.0
    class_weight: ClassWeight = None

    def forward(self, preds_S: Tensor, gt_labels: Tensor) -> Tensor:
        classes, targets = preds_S.size(1), gt_labels
        if gt_labels.dim() == 1:
            targets = F.one_hot(gt_labels, classes)
        rest = (1 - self.a) / (classes - 1)
        virtual = (rest + (self.a - rest) * targets.float()).log()
        apart = kl_of_samples(preds_S, virtual, self.tau)
        weight = self.sample_weight(preds_S, gt_labels)
        return self.loss_weight * self.tau**2 * (weight * apart).mean()


@MODELS.register_module()
class USKDLoss(BatchLoss):
    r"""Universal self-KD of Yang et al., section 3.3, on the scores alone.

    ``alpha * L_target + beta * L_others`` with ``p = softmax(s)`` and label ``y``:

    - ``L_target = -mean_i P_i log p_i,y`` with the smoothed target ``P_i = 1
      + p_i,y^2 - mean_j p_j,y^2``, no gradient through ``P``, times the weight
      of the label's class;
    - ``L_others = -mean_i sum_k Z_r(k) log n_i,k``: the other classes alone
      (``n`` is their softmax) learn Zipf's law ``Z_r ~ 1/r``, ``r`` = 1, 2,
      ... in the order of their scores.

    The paper ranks by the sum of this and of a second prediction from an intermediate
    feature; here the scores rank themselves. The authors' code counts the label in the
    ranks and adds log-probabilities to probabilities.
    """

    family = 'self'
    source = 'Yang et al., ICCV 2023, arXiv 2303.13005, section 3.3'
    fails = (
        'early in training and few classes: the ranks are then noise, and '
        'the network is told to keep its own order'
    )
    minimum_at_teacher = False
    two_classes = 'one other class has no order; only the target is smoothed'

    alpha: NotNegative = 1.0  # weight of the target class
    beta: NotNegative = 0.1  # weight of the other classes
    class_weight: ClassWeight = None  # one weight a class, of the target part

    def forward(self, preds_S: Tensor, gt_labels: Tensor) -> dict[str, Tensor]:
        logits, gt_labels = self.gathered(preds_S, gt_labels)
        label = gt_labels.unsqueeze(1)
        log_target = F.log_softmax(logits, dim=1).gather(1, label)
        squares = log_target.detach().exp().square()
        smoothed = 1 + squares - squares.mean()
        smoothed = smoothed * self.sample_weight(logits, gt_labels).view(-1, 1)
        ranks = torch.arange(1, logits.size(1), device=logits.device)
        others = logits.gather(1, ranks - (ranks <= label).long())
        ranked = F.log_softmax(others, dim=1).sort(dim=1, descending=True).values
        zipf = 1 / ranks.float()
        return self.scaled(
            loss_target=self.alpha * -(smoothed * log_target).mean(),
            loss_others=self.beta * -(zipf / zipf.sum() * ranked).sum(dim=1).mean(),
        )
