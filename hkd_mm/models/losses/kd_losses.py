# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Soft targets: KL divergence and its variants of temperature."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hkd_mm.models.arguments import NotNegative, Positive
from hkd_mm.models.losses.distill_loss import DistillLoss
from hkd_mm.registry import MODELS

_TINY = 1e-7  # standard deviation below which scores count as all equal


def log_probabilities(logits: Tensor, tau: float | Tensor) -> Tensor:
    """``log softmax(logits / tau)`` of (N, C), in float32."""
    return F.log_softmax(logits.float() / tau, dim=1)


def divergence(log_p_S: Tensor, log_p_T: Tensor) -> Tensor:
    """``sum_k p_T,k (log p_T,k - log p_S,k)`` of each sample: (N,), >= 0."""
    return F.kl_div(log_p_S, log_p_T, reduction='none', log_target=True).sum(1)


def kl_of_samples(
    preds_S: Tensor,
    preds_T: Tensor,
    tau: float | Tensor,
    tau_T: float | Tensor | None = None,
) -> Tensor:
    """``KL(softmax(t_i / tau) || softmax(s_i / tau))`` of each sample i: (N,).

    The teacher may have a temperature of its own.
    """
    return divergence(
        log_probabilities(preds_S, tau),
        log_probabilities(preds_T, tau if tau_T is None else tau_T),
    )


def target_mask(logits: Tensor, gt_labels: Tensor) -> Tensor:
    """Mark each sample's label, as (N, C) bool."""
    return F.one_hot(gt_labels, logits.size(1)).bool()


def non_target_log_probabilities(logits: Tensor, target: Tensor, tau: float) -> Tensor:
    """Log-probabilities of (N, C) among the classes that are not the label.

    The label is taken out of the softmax, whatever the size of the logits. There it
    is 0, so that it adds nothing to :func:`divergence`.
    """
    rest = (logits.float() / tau).masked_fill(target, -torch.inf)
    return F.log_softmax(rest, dim=1).masked_fill(target, 0)


def standardize(logits: Tensor) -> Tensor:
    """Z-scores of each sample's class scores (N, C), in float32.

    ``(z - mean(z)) / sqrt(mean((z - mean(z))^2))`` over the classes, so that no score
    is beyond ``sqrt(C - 1)`` in size; finite for all equal scores. Source: Sun et al.,
    arXiv 2403.01427, algorithm 1 (whose published code divides by C - 1 in place of C:
    a temperature ``sqrt(C / (C - 1))`` times as high).
    """
    centred = logits.float() - logits.float().mean(dim=1, keepdim=True)
    variance = centred.square().mean(dim=1, keepdim=True)
    return centred / variance.clamp_min(_TINY**2).sqrt()


def soft_target_kl(preds_S: Tensor, preds_T: Tensor, tau: float | Tensor) -> Tensor:
    """``tau^2 * KL(softmax(preds_T / tau) || softmax(preds_S / tau))``.

    Source: Hinton et al., arXiv 1503.02531, section 2 (the factor ``tau^2`` keeps the
    gradient's size when ``tau`` changes). The mean over the batch, in float32.
    """
    return tau**2 * kl_of_samples(preds_S, preds_T.detach(), tau).mean()


@MODELS.register_module()
class KLLoss(DistillLoss):
    """Soft targets of Hinton et al., section 2: the plain KD loss.

    ``tau^2 * mean_i KL(softmax(t_i / tau) || softmax(s_i / tau))``. mmrazor's
    ``KLDivergence`` is the same, but in half precision under autocast.
    """

    family = 'response'
    source = 'Hinton et al., arXiv 1503.02531, section 2'
    fails = (
        'A teacher that is certain of everything has nothing to say beyond '
        'the label; one that is wrong is followed.'
    )
    soft_labels = True

    tau: Positive = 4.0

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        return self.loss_weight * soft_target_kl(preds_S, preds_T, self.tau)


@MODELS.register_module()
class LogitStdLoss(DistillLoss):
    r"""Logit standardization of Sun et al. before plain KD.

    ``L = tau^2 * mean_i KL(softmax(Z(t_i) / tau) || softmax(Z(s_i) / tau))`` where Z
    takes each sample's scores to mean 0 and standard deviation 1 (population, over the
    classes): a small student need not copy the size of the teacher's scores, which is
    left to the hard label. With DKD in place of KL: ``DKDLoss(standardize=True)``. The
    paper has a ``loss_weight`` of 9 beside 0.1 for the hard label.
    """

    family = 'response'
    source = 'Sun et al., arXiv 2403.01427, algorithm 1'
    fails = (
        "It throws away the teacher's certainty: a doubtful image is taught "
        'as sharply as a clear one, and the gradient grows as the student '
        'scores approach one constant.'
    )
    soft_labels = True
    two_classes = (
        'standardized scores are always 1 and -1, so nothing is learned but '
        'which one is higher'
    )

    tau: Positive = 2.0  # lower than in plain KD: scores are at most ``sqrt(C - 1)``

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        return self.loss_weight * soft_target_kl(
            standardize(preds_S), standardize(preds_T), self.tau
        )


@MODELS.register_module()
class NormKDLoss(DistillLoss):
    r"""Normalized KD of Chi et al., section 3: temperatures from the spread.

    ``mean_i T_t,i^2 * KL(softmax(t_i / T_t,i) || softmax(s_i / T_s,i))`` with
    ``T_t,i = tau * std(t_i)`` and ``T_s,i = tau * std(s_i)``, the standard
    deviations over the classes (divisor ``C - 1``). The paper has no lower bound for
    the deviation; here it is ``eps``, for equal scores and for a new last layer.
    """

    family = 'response'
    source = 'Chi et al., arXiv 2308.00520, section 3 (T_norm = 2)'
    fails = (
        'a teacher whose confidence tells easy from hard images: dividing '
        'by the spread of each takes that out of the shape of the targets'
    )
    soft_labels = True
    recommended_range = dict(tau=(0.5, 8))  # of scores with deviation 1
    two_classes = (
        'two scores divided by their spread are always +-0.7, so nothing but '
        'the sign is left and no gradient flows; take hkd_mm.KLLoss'
    )

    tau: Positive = 2.0  # T_norm, of scores with standard deviation 1
    eps: Positive = 1e-2  # least standard deviation

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        # the root only ever sees values >= eps^2
        tau_S, tau_T = (
            self.tau * x.var(dim=1, keepdim=True).clamp_min(self.eps**2).sqrt()
            for x in (preds_S, preds_T)
        )
        apart = kl_of_samples(preds_S, preds_T, tau_S, tau_T)
        return self.loss_weight * (tau_T[:, 0].square() * apart).mean()


@MODELS.register_module()
class CTKDLoss(DistillLoss):
    r"""Curriculum temperature of Li et al. (AAAI 2023), the global one.

    ``tau^2 * mean_i KL(softmax(t_i / tau) || softmax(s_i / tau))`` with
    ``tau = tau_min + tau_range * sigmoid(w)``. The student lowers it, the one
    parameter ``w`` raises it: its gradient is turned round and multiplied
    with ``reversal``. ``w`` is in the optimizer and in the checkpoint.

    The curriculum is ``reversal`` rising from 0 to 1 on half a cosine over 10
    epochs, equation (9): ``hkd_mm.LossScheduleHook(loss=..., word='reversal',
    kind='cosine', start=0, until=10)``.
    """

    family = 'response'
    source = 'Li et al., arXiv 2211.16231, equations (2), (4), (8), (9)'
    fails = (
        'short runs: the temperature has one parameter and moves at the '
        "student's learning rate, so it hardly leaves where it started"
    )
    soft_labels = True
    fixed = ('tau',)

    # temperature at the start, between ``tau_min`` and ``tau_min + tau_range``; 15.6 is
    # the authors' ``w = 1``
    tau: Positive = 15.6
    tau_min: Positive = 1.0  # lower bound
    tau_range: Positive = 20.0  # the upper bound is that much higher
    reversal: NotNegative = 1.0  # strength of the adversary; 0 keeps the temperature

    def __post_init__(self) -> None:
        super().__post_init__()
        share = (self.tau - self.tau_min) / self.tau_range
        bounds = f'between {self.tau_min:g} and {self.tau_min + self.tau_range:g}'
        self.require(0 < share < 1, 'tau', self.tau, bounds)
        self.w = nn.Parameter(torch.tensor(math.log(share / (1 - share))))

    @property
    def temperature(self) -> Tensor:
        """``tau`` as it is now, a float32 scalar."""
        return self.tau_min + self.tau_range * self.w.float().sigmoid()

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        tau = self.temperature
        # its own value, and its gradient turned round
        tau = tau.detach() + self.reversal * (tau.detach() - tau)
        return self.loss_weight * soft_target_kl(preds_S, preds_T, tau)
