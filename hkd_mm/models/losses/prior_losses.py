# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Losses that know how frequent the classes are: balanced softmax, corrected KD."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hkd_mm.models.arguments import NotNegative, Positive
from hkd_mm.models.losses.distill_loss import DistillLoss
from hkd_mm.models.losses.kd_losses import soft_target_kl
from hkd_mm.registry import MODELS


class PriorLoss(DistillLoss):
    """A loss with ``strength * log prior_c``, (C,), to put on or take off scores.

    Training by plain cross-entropy adds ``log prior_c`` to the class scores, weights
    ``w_c`` add ``log w_c``: a prior of ``strength`` 1 after plain cross-entropy, of 1/2
    after ``class_weight='sqrt_balanced'``, of 0 after ``'balanced'``, a balanced
    sampler or :class:`BalancedSoftmaxLoss`.
    """

    family = 'response'
    soft_labels = True
    minimum_at_teacher = False
    recommended_range = dict(tau=(1, 20), strength=(0, 1.5))

    strength: NotNegative = 1.0  # power of the prior
    # one share a class; 'train' in a config counts the training split
    class_prior: list[Positive] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        prior = None
        if self.class_prior is not None:
            prior = self.strength * torch.tensor(self.class_prior).log()
        self.register_buffer('_log_prior', prior, persistent=False)

    def log_prior(self, preds_S: Tensor) -> Tensor | float:
        """For logits (N, C): (C,), or 0 without a prior, which is warned about."""
        if self._log_prior is None:
            self.warn_once(
                'prior',
                'class_prior=None counts all classes as equally frequent, so nothing '
                "is corrected; set class_prior='train' in the config",
            )
            return 0.0
        expected = f'one number for each of the {preds_S.size(1)} classes'
        good = len(self._log_prior) == preds_S.size(1)
        self.require(good, 'class_prior', self.class_prior, expected)
        return self._log_prior


@MODELS.register_module()
class BalancedSoftmaxLoss(PriorLoss):
    r"""Balanced softmax of Ren et al., equation (4); logit adjustment in the loss.

    ``L = mean_i CE(s_i + strength * log prior, y_i)``: the training scores carry the
    prior, the scores that the network is used with do not. Menon et al. (arXiv
    2007.07314, equation (10)) write ``tau`` for ``strength``; their logit adjustment
    after a training by plain cross-entropy is a shift of the last layer's bias.
    """

    source = 'Ren et al., arXiv 2007.10740, equation (4)'
    fails = (
        'Beside class weights or a balanced sampler the prior is taken off twice, and '
        'beside a teacher that has it the two losses pull apart. Accuracy falls where '
        'the test images are as unbalanced as the training images.'
    )

    def forward(self, preds_S: Tensor, gt_labels: Tensor) -> Tensor:
        scores = preds_S + self.log_prior(preds_S)
        return self.loss_weight * F.cross_entropy(scores, gt_labels)


@MODELS.register_module()
class PriorCorrectedKLLoss(PriorLoss):
    r"""Plain KD from a teacher whose prior is taken off first.

    ``L = tau^2 * mean_i KL(softmax((t_i - strength * log prior) / tau) || softmax(s_i /
    tau))``. A teacher trained by plain cross-entropy adds the log prior to what an
    image says of its class (Menon et al., equation (4)); a student of balanced softmax
    must not be told it again. The correction is ours: Zhang et al. (arXiv 2104.10510)
    weigh the softened probabilities, which is a prior of the power ``tau``.
    """

    source = 'Menon et al., arXiv 2007.07314, equation (4), applied to the teacher'
    fails = (
        'It believes the prior that it is told: of a teacher with class weights '
        'or a balanced sampler, strength 1 takes off what is not there.'
    )

    tau: Positive = 4.0

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        corrected = preds_T - self.log_prior(preds_S)
        return self.loss_weight * soft_target_kl(preds_S, corrected, self.tau)
