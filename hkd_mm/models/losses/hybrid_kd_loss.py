# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hybrid knowledge distillation: soft targets, labels, features."""

import torch.nn.functional as F
from torch import Tensor

from hkd_mm.models.arguments import NotNegative, Positive, Share
from hkd_mm.models.losses.distill_loss import ClassWeight, DistillLoss
from hkd_mm.models.losses.kd_losses import soft_target_kl
from hkd_mm.registry import MODELS


@MODELS.register_module()
class HybridKDLoss(DistillLoss):
    r"""Hybrid KD of Sasongko et al. (INFOS 8(2), 2025), equation (1).

    ``L = alpha * L_KD + (1 - alpha) * L_CE + beta * L_FA``: the KL divergence from the
    teacher's to the student's softened class probabilities (times ``tau^2``), the
    cross-entropy on the label, and the mean squared difference of the aligned feature
    maps. The paper names no temperature; 4 is the customary one. With ``alpha`` = 1 the
    label is not used, with ``beta`` = 0 the features are not: the paper's four variants
    are four settings of this loss. (Other papers weigh the *hard* loss by alpha.)
    """

    family = 'response'
    source = 'Sasongko et al., INFOS 8(2), 2025, equation (1)'
    features = 'map'
    soft_labels = True
    minimum_at_teacher = False  # the label pulls as well
    recommended_range = dict(tau=(1, 20), alpha=(0.1, 1), beta=(0, 10))

    alpha: Share = 0.85  # weight of the soft targets
    beta: NotNegative = 0.02  # weight of the feature alignment
    tau: Positive = 4.0
    class_weight: ClassWeight = None  # one weight a class, of the cross-entropy

    def forward(
        self,
        preds_S: Tensor,
        preds_T: Tensor,
        gt_labels: Tensor | None = None,
        s_feature: Tensor | None = None,
        t_feature: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The weighted parts; those of weight 0 are left out, and what they need."""
        losses = {}
        if self.alpha > 0:
            kd = soft_target_kl(preds_S, preds_T, self.tau)
            losses['loss_kd'] = self.alpha * kd
        if self.alpha < 1:
            ce = self.cross_entropy(preds_S, gt_labels)
            losses['loss_ce'] = (1 - self.alpha) * ce
        if self.beta > 0:
            losses['loss_align'] = self.beta * F.mse_loss(s_feature, t_feature)
        return self.scaled(**losses)

    @property
    def unused_inputs(self) -> tuple[str, ...]:
        """Inputs that only the parts of weight 0 would need."""
        labels = () if self.alpha < 1 else ('gt_labels',)
        return labels + (() if self.beta > 0 else ('s_feature', 't_feature'))
