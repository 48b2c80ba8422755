# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Soft targets of several teachers, each heard as much as it deserves."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hkd_mm.models.arguments import Fraction, Positive
from hkd_mm.models.losses.distill_loss import BatchLoss, DistillLoss
from hkd_mm.models.losses.kd_losses import divergence, kl_of_samples
from hkd_mm.registry import MODELS

_LEAST = 1e-12  # entropy, so that teachers without any are equal


class MultiTeacherLoss(DistillLoss):
    """``tau^2 * mean_i sum_k w_ik KL(softmax(t_ik / tau) || softmax(s_i / tau))``.

    ``preds_T`` is (N, K, C), of K teachers (:class:`hkd_mm.MultiTeacherDistill`); a
    child says what ``w`` is. One teacher's KL is that of :class:`KLLoss`.
    """

    family = 'response'
    soft_labels = True
    each_teacher = True

    tau: Positive = 4.0

    def weighted(self, preds_S: Tensor, preds_T: Tensor, weight: Tensor) -> Tensor:
        """The loss of logits (N, C), (N, K, C) under weights (N, K) or (K,)."""
        mine = preds_S.repeat_interleave(preds_T.size(1), dim=0)
        apart = kl_of_samples(mine, preds_T.flatten(0, 1), self.tau)
        apart = (weight * apart.view(preds_T.shape[:2])).sum(dim=1)
        return self.loss_weight * self.tau**2 * apart.mean()


@MODELS.register_module()
class CAMKDLoss(MultiTeacherLoss):
    """CA-MKD of Zhang et al.: who errs on the label of an image is heard less.

    ``w_ik = (1 - softmax_k(CE(t_ik, y_i))) / (K - 1)``, which sums to 1; the authors'
    code divides by K once more. ``fusion='confidence'`` of the teachers has the same
    gradient, for any loss, but cannot be cached. The feature part is left out.
    """

    source = 'Zhang et al., arXiv 2201.00007 (CA-MKD), equations (1) - (3)'
    fails = (
        'On training images that all teachers know by heart their losses are near 0 '
        'and the weights equal.'
    )

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        labels = gt_labels.repeat_interleave(preds_T.size(1), dim=0)
        errors = F.cross_entropy(preds_T.flatten(0, 1), labels, reduction='none')
        errors = errors.view(preds_T.shape[:2]).softmax(dim=1)
        weight = (1 - errors) / (preds_T.size(1) - 1)
        return self.weighted(preds_S, preds_T, weight)


@MODELS.register_module()
class EBKDLoss(MultiTeacherLoss):
    """Entropy-based weights of Kwon et al.: doubtful teachers are heard less.

    ``w_ik = (1 - H_ik / sum_j H_ij) / (K - 1)`` with ``H`` the entropy of a teacher's
    probabilities at temperature 1; no label is needed. It sums to 1, in the code of
    CA-MKD's authors to ``(K - 1) / K``.
    """

    source = 'Kwon et al., ICASSP 2020 (entropy-based KD), section 2'
    fails = (
        'A teacher that is sure and wrong outweighs one that doubts with reason; with '
        'few classes entropies differ by factors, and one teacher is all that is heard.'
    )

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        log_p = F.log_softmax(preds_T, dim=2)
        entropy = (-log_p.exp() * log_p).sum(dim=2).clamp_min(_LEAST)
        share = entropy / entropy.sum(dim=1, keepdim=True)
        return self.weighted(preds_S, preds_T, (1 - share) / (preds_T.size(1) - 1))


@MODELS.register_module()
class AgreementKDLoss(MultiTeacherLoss):
    """Teachers that agree with the others are heard more, as are images they agree on.

    With ``d_ik = KL(p_ik || mean_j p_ij)`` at temperature 1: ``w_ik = (1 - mean_k d_ik
    / log K) * softmax_k(-d_ik)``, the first factor one less the Jensen-Shannon
    divergence over its largest value. The idea is that of MTAKD (Sci. Rep. 2025, doi
    10.1038/s41598-025-27038-1), which publishes no formula; this one is ours.
    """

    source = 'after MTAKD, Sci. Rep. 2025, s41598-025-27038-1; the formula is ours'
    fails = (
        'Agreement is no truth: teachers of one kind err together, and the images they '
        'differ on, the rare ones, are taught least. Two teachers are nearly always '
        'equally far from their mean.'
    )

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        log_p, teachers = F.log_softmax(preds_T, dim=2), preds_T.size(1)
        mean = log_p.logsumexp(dim=1) - math.log(teachers)
        mean = mean.repeat_interleave(teachers, dim=0)
        apart = divergence(mean, log_p.flatten(0, 1)).view(preds_T.shape[:2])
        agreed = 1 - apart.mean(dim=1, keepdim=True) / math.log(teachers)
        weight = agreed * (-apart).softmax(dim=1)
        return self.weighted(preds_S, preds_T, weight)


@MODELS.register_module()
class AEKDLoss(BatchLoss, MultiTeacherLoss):
    """AEKD of Du et al.: the direction that all teachers agree to.

    ``w`` is the point of least length ``|sum_k w_k g_k|`` with ``0 <= w_k <= most``
    and sum 1, where ``g_k`` is the gradient of teacher k's part with respect to the
    student's scores, a mean over the batch: ``softmax(s / tau) - softmax(t_k / tau)``.
    One weight a teacher and batch. The authors solve it as a one-class SVM.
    """

    source = 'Du et al., NeurIPS 2020 (AEKD-logits)'
    fails = (
        'The mean over the batch lets images cancel out, so in large batches the '
        'weights hardly differ; the shortest common gradient also follows the weakest '
        'teacher.'
    )
    smallest_batch = 1

    most: Fraction = 0.6  # largest weight of a teacher, at least 1 / K

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        q, p = preds_S.detach()[:, None], preds_T
        (apart,) = self.gathered((q / self.tau).softmax(2) - (p / self.tau).softmax(2))
        weight = shortest_mixture(apart.mean(dim=0), self.most)
        return self.weighted(preds_S, preds_T, weight)


def shortest_mixture(vectors: Tensor, most: float) -> Tensor:
    """Weights (K,) in [0, most], of sum 1, whose mixture of (K, D) is shortest."""
    from scipy.optimize import minimize

    products = (vectors @ vectors.T).double().cpu().numpy()
    products = products / max(products.trace(), 1e-300)
    count = len(products)
    found = minimize(
        lambda w: w @ products @ w,
        [1 / count] * count,
        jac=lambda w: 2 * products @ w,
        bounds=[(0, max(most, 1 / count))] * count,
        constraints=dict(type='eq', fun=lambda w: w.sum() - 1),
        method='SLSQP',
        options=dict(ftol=1e-10),
    )
    return torch.as_tensor(found.x, dtype=torch.float32, device=vectors.device)
