# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hard labels and soft targets: Hybrid KD, and either of them alone."""

import torch.nn.functional as F
from torch import Tensor

from hkd_mm.models.arguments import NotNegative, Positive, Share
from hkd_mm.models.losses.distill_loss import ClassWeight, DistillLoss
from hkd_mm.models.losses.kd_losses import kl_of_samples, soft_target_kl
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
    class_weight: ClassWeight = None  # of the cross-entropy

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
        labels = () if self.alpha < 1 else ('gt_labels',)
        return labels + (() if self.beta > 0 else ('s_feature', 't_feature'))


@MODELS.register_module()
class HardLabelLoss(DistillLoss):
    """Cross-entropy between the student's class scores and the label."""

    family = 'response'
    source = 'Hinton et al., arXiv 1503.02531, section 2'
    soft_labels = True
    minimum_at_teacher = False

    class_weight: ClassWeight = None

    def forward(self, preds_S: Tensor, gt_labels: Tensor) -> Tensor:
        return self.loss_weight * self.cross_entropy(preds_S, gt_labels)


@MODELS.register_module()
class DeiTHardLoss(DistillLoss):
    r"""Hard-label distillation of Touvron et al., equation (3).

    ``L = mean_i CE(s_i, argmax_c t_i,c)``, without label smoothing, as in the paper.
    Equation (3) is half of it and half of :class:`hkd_mm.HardLabelLoss`; the paper's
    distillation token is a part of its student.
    """

    family = 'response'
    source = 'Touvron et al., arXiv 2012.12877, equation (3)'
    fails = (
        "The teacher's mistakes are taught as truths and its doubts not at all; a "
        'teacher that is right on every training image adds nothing to the label.'
    )
    soft_labels = True
    minimum_at_teacher = False  # wants the decision with certainty

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        return self.loss_weight * F.cross_entropy(preds_S, preds_T.argmax(dim=1))


@MODELS.register_module()
class ClassWeightedKLLoss(DistillLoss):
    r"""Plain KD in which each sample counts as much as its class does.

    ``L = tau^2 * mean_i w[y_i] KL(softmax(t_i / tau) || softmax(s_i / tau))``
    with y_i the label; of a mixed image the mean of w under its targets.
    With ``'balanced'`` weights, ``w_c = n / (C n_c)``, every class has the
    same share in the loss, while plain KD teaches mostly the common ones.

    The weight is one a sample, as Cui et al. put it on any loss, and not one
    a term of the divergence, whose minimum would not be at the teacher. The mean is
    over the samples; the weights' mean over the training images is 1.
    """

    family = 'response'
    source = (
        'Hinton et al., arXiv 1503.02531, section 2, weighted as in Cui et '
        'al., arXiv 1901.05555, section 4'
    )
    fails = (
        'A class of very few images gets a large weight on the few targets a '
        'teacher has often learned by heart, which raises the variance of '
        'the gradient; sqrt_balanced is milder.'
    )
    soft_labels = True

    tau: Positive = 4.0
    class_weight: ClassWeight = None

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        apart = kl_of_samples(preds_S, preds_T, self.tau)
        weight = self.sample_weight(preds_S, gt_labels)
        return self.loss_weight * self.tau**2 * (weight * apart).mean()
