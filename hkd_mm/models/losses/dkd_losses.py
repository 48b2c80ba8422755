# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Soft targets that treat the label's class apart: DKD, NKD, RLD, WSLD."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hkd_mm.models.arguments import NotNegative, Positive
from hkd_mm.models.losses.distill_loss import DistillLoss
from hkd_mm.models.losses.kd_losses import (
    LogitStdLoss,
    divergence,
    kl_of_samples,
    log_probabilities,
    non_target_log_probabilities,
    standardize,
    target_mask,
)
from hkd_mm.registry import MODELS


@MODELS.register_module()
class DKDLoss(DistillLoss):
    r"""Decoupled KD of Zhao et al., equation (7).

    ``L = tau^2 * mean_i (alpha * TCKD_i + beta * NCKD_i)``, where TCKD is the
    divergence between the two-valued distributions (label, all others), and
    NCKD the one between the distributions among the other classes, both at
    temperature ``tau``. Plain KD is the same with ``beta = 1 - p_T(label)``,
    small where the teacher is confident.

    The authors raise the weight from 0 over the first 20 of 240 epochs, as
    ``hkd_mm.LossScheduleHook`` can. mmrazor's ``DKDLoss`` sums over the batch where an
    average is configured, and subtracts 1000 from the label's logit.
    """

    family = 'response'
    source = 'Zhao et al., arXiv 2203.08679, equation (7)'
    fails = (
        'A large beta teaches the noise among the unlikely classes of a teacher that '
        'is weak or hardly trained; the fewer the classes, the less NCKD has to say.'
    )
    two_classes = (
        'there is but one class besides the label, so the non-target part '
        '(beta) is 0; only the target part (alpha) is left'
    )
    recommended_range = dict(tau=(1, 20), alpha=(0, 10), beta=(0.1, 20))

    tau: Positive = 4.0  # temperature; 4 in the paper for CIFAR-100, 1 for ImageNet
    alpha: NotNegative = 1.0  # weight of the target part
    # weight of the non-target part; 8 in the paper for most pairs on CIFAR-100, 0.5 for
    # ImageNet
    beta: NotNegative = 8.0
    # take Z-scores of both networks' logits first (:class:`LogitStdLoss`)
    standardize: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.standardize:
            self.two_classes = LogitStdLoss.two_classes

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        target = target_mask(preds_S, gt_labels)
        both = preds_S, preds_T
        if self.standardize:
            both = tuple(map(standardize, both))
        tckd, nckd = (
            divergence(*(log_p(logits, target, self.tau) for logits in both))
            for log_p in (_label_or_not, non_target_log_probabilities)
        )
        total = self.alpha * tckd + self.beta * nckd
        return self.loss_weight * self.tau**2 * total.mean()


def _label_or_not(logits: Tensor, target: Tensor, tau: float) -> Tensor:
    """Log-probabilities (N, 2) of the label and of all others together."""
    log_p = log_probabilities(logits, tau)
    others = log_p.masked_fill(target, -torch.inf).logsumexp(dim=1)
    return torch.stack([log_p[target], others], dim=1)


@MODELS.register_module()
class NKDLoss(DistillLoss):
    r"""Normalized KD of Yang et al., without its hard-label term.

    With S and T the class probabilities at temperature 1, y the label, and
    N(.) the probabilities among the other classes at temperature ``tau``::

        L = mean_i (-T_y log S_y) + gamma * tau^2 * mean_i KL(N(T) || N(S))

    The paper has a cross-entropy in place of the divergence: the same but for
    the teacher's entropy, which has no gradient. Its first term,
    ``-log S_y``, is :class:`hkd_mm.HardLabelLoss` with weight 1.
    """

    family = 'response'
    source = 'Yang et al., arXiv 2303.13005, L_NKD'
    fails = (
        'Its target part pulls towards a certain student, never towards the '
        "teacher's doubt, so it does not teach calibrated scores."
    )
    minimum_at_teacher = False  # -T_y log S_y wants S_y = 1
    two_classes = (
        'there is but one class besides the label, so the non-target part '
        '(gamma) is 0; what is left is a weighted cross-entropy'
    )

    tau: Positive = 1.0  # temperature of the other classes
    gamma: NotNegative = 1.5  # weight of the other classes

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        target, both = target_mask(preds_S, gt_labels), (preds_S, preds_T)
        log_S, log_T = (log_probabilities(logits, 1.0)[target] for logits in both)
        others = divergence(
            *(non_target_log_probabilities(logits, target, self.tau) for logits in both)
        )
        whole = self.gamma * self.tau**2 * others - log_T.exp() * log_S
        return self.loss_weight * whole.mean()


@MODELS.register_module()
class RLDLoss(DistillLoss):
    r"""Refined logit distillation of Sun et al.: what a wrong teacher says is left out.

    ``mean_i (alpha * tau_top^2 * KL(b(t, argmax t) || b(s, y)) + beta * tau^2 * KL(t'
    || s'))``. ``b(z, k)`` is the distribution (class k, all others) at ``tau_top``: the
    student shall be as sure of the label as its teacher is of whatever it names. ``t'``
    and ``s'`` are the probabilities at ``tau`` among the classes that the teacher holds
    less likely than the label; what it holds more likely is wrong and not taught.

    With a teacher that is right it is :class:`DKDLoss`. The authors raise the weight
    over the first 20 of 240 epochs. Their code takes the logarithm of a softmax, not a
    number for a gap of 104, and masks with -1e9, which half precision refuses.
    """

    family = 'response'
    source = 'Sun et al., arXiv 2408.07703, the sample and masked correlation losses'
    fails = (
        'A wrong teacher that is sure makes the student as sure of the label; of few '
        'classes hardly any is left below the label, so most targets say nothing.'
    )
    minimum_at_teacher = False  # unless it is right
    two_classes = (
        'the masked part (beta) has at most one class and is 0; what is left makes the '
        'student as sure of the label as the teacher is of its answer'
    )
    recommended_range = dict(tau=(1, 20), tau_top=(1, 20), beta=(0.1, 20))

    tau: Positive = 4.0  # 1 in the paper for ImageNet
    tau_top: Positive = 4.0  # of the first part
    alpha: NotNegative = 1.0  # weight of the first part
    beta: NotNegative = 8.0  # weight of the masked part; 0.5 - 2 for ImageNet

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        target, top = (target_mask(preds_S, y) for y in (gt_labels, preds_T.argmax(1)))
        confident = divergence(
            _label_or_not(preds_S, target, self.tau_top),
            _label_or_not(preds_T, top, self.tau_top),
        )
        below = preds_T < preds_T.gather(1, gt_labels[:, None])
        # a row without such classes is left whole, for its gradient, and not counted
        taken_out = ~below & below.any(dim=1, keepdim=True)
        masked = divergence(
            *(
                non_target_log_probabilities(z, taken_out, self.tau) * below
                for z in (preds_S, preds_T)
            )
        )
        alpha, beta = self.alpha * self.tau_top**2, self.beta * self.tau**2
        return self.loss_weight * (alpha * confident + beta * masked).mean()


@MODELS.register_module()
class WSLDLoss(DistillLoss):
    r"""Weighted soft labels of Zhou et al.

    ``L = tau^2 * mean_i w_i KL(softmax(t_i / tau) || softmax(s_i / tau))`` with
    ``w_i = 1 - exp(-CE(s_i, y_i) / CE(t_i, y_i))`` at temperature 1 and without a
    gradient: a sample that the student already knows better than the teacher counts
    little. The paper, as mmrazor's ``WSLD``, has a cross-entropy in place of the
    divergence; the difference is the teacher's entropy, which has no gradient. The
    paper has a ``loss_weight`` of 2.5 for ImageNet, of 2.25 with ``tau`` 4 for
    CIFAR-100.
    """

    family = 'response'
    source = 'Zhou et al., arXiv 2102.00650, section 4 (weighted soft labels)'
    fails = (
        'A teacher that fits its training images perfectly has cross-entropy '
        'near 0, all weights become 1 and it is plain KD.'
    )
    soft_labels = True

    tau: Positive = 2.0

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        apart = kl_of_samples(preds_S, preds_T, self.tau)
        both = preds_S.detach(), preds_T
        mine, other = (F.cross_entropy(x, gt_labels, reduction='none') for x in both)
        weight = -torch.expm1(-mine / other.clamp_min(1e-7))
        return self.loss_weight * self.tau**2 * (weight * apart).mean()
