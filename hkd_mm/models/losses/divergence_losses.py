# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Soft targets under other divergences than KL: TTM, WTTM, ABKD, OFA."""

import torch.nn.functional as F
from torch import Tensor

from hkd_mm.models.arguments import Fraction, Positive
from hkd_mm.models.losses.distill_loss import DistillLoss
from hkd_mm.models.losses.kd_losses import divergence, log_probabilities
from hkd_mm.registry import MODELS


@MODELS.register_module()
class TTMLoss(DistillLoss):
    r"""Transformed teacher matching of Zheng and Yang, plain or weighted.

    ``mean_i u_i KL(p_i^gamma / U_i || softmax(s_i))``, ``p = softmax(t)``, ``U = sum_c
    p_c^gamma``: the teacher is softened (``gamma`` is 1 / tau), the student is not,
    which adds a Renyi entropy to plain KD; there is no ``tau^2``. ``u`` is 1, or with
    ``weighted`` ``U / C^(1 - gamma)``, in (0, 1]: certain teachers are heard less. The
    paper's weight is ``U`` itself, which reaches 40 with 100 classes and 4 with six: a
    weight w there is ``w C^(1 - gamma)`` here.
    """

    family = 'response'
    source = 'Zheng and Yang, arXiv 2402.11148 (TTM and WTTM)'
    fails = (
        'The student is to be as soft as the softened teacher, so its probabilities '
        'are far from calibrated, and beside a large weight the label says little.'
    )
    minimum_at_teacher = False  # but at the softened one
    soft_labels = True
    recommended_range = dict(gamma=(0.05, 1))

    gamma: Fraction = 0.1  # power of the teacher's probabilities
    weighted: bool = False  # weigh each image, WTTM

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        log_p = self.gamma * log_probabilities(preds_T, 1.0)
        log_total = log_p.logsumexp(dim=1, keepdim=True)
        apart = divergence(log_probabilities(preds_S, 1.0), log_p - log_total)
        if self.weighted:
            most = preds_S.size(1) ** (1 - self.gamma)
            apart = apart * log_total[:, 0].exp() / most
        return self.loss_weight * apart.mean()


@MODELS.register_module()
class ABKDLoss(DistillLoss):
    r"""The alpha-beta divergence of Wang et al. in place of KL.

    ``tau^2 * mean_i D(p_i, q_i)`` with ``D = -1 / (a b) * sum_c (p^a q^b - a / (a + b)
    p^(a + b) - b / (a + b) q^(a + b))``, ``a = alpha``, ``b = beta``, ``p`` of the
    teacher and ``q`` of the student at ``tau``. (1, 0) would be KL, (0, 1) its reverse,
    (1/2, 1/2) is four times the squared Hellinger distance; more ``a + b`` hears the
    probable classes more. The authors leave ``tau^2`` to the weight: 32 at tau 4 there
    is 2 here. The limits at 0 have a wrong factor in their code and are not offered.
    """

    family = 'response'
    source = 'Wang et al., arXiv 2505.04560, the alpha-beta divergence'
    fails = (
        'Two more numbers to tune, for a gain over KL that the paper finds where '
        'student and teacher differ much; near (1, 0) it is plain KD.'
    )
    soft_labels = True
    recommended_range = dict(tau=(1, 20), alpha=(0.1, 2), beta=(0.1, 2))

    tau: Positive = 4.0
    alpha: Positive = 0.8  # power of the teacher's probabilities
    beta: Positive = 0.3  # power of the student's

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        log_q, log_p = (log_probabilities(z, self.tau) for z in (preds_S, preds_T))
        a, b = self.alpha, self.beta
        own = a * ((a + b) * log_p).exp() + b * ((a + b) * log_q).exp()
        both = (a * log_p + b * log_q).exp()
        apart = (own / (a + b) - both).sum(dim=1) / (a * b)
        return self.loss_weight * self.tau**2 * apart.mean()


@MODELS.register_module()
class OFALoss(DistillLoss):
    r"""The logit part of one-for-all distillation, Hao et al.

    ``-tau^2 * mean_i sum_c ((p_c + y_c)^exponent - y_c) log q_c`` with ``y`` the label
    as a distribution, ``p`` of the teacher and ``q`` of the student at ``tau``: with
    ``exponent`` 1 the cross-entropy on the teacher, above it more for the label where
    the teacher agrees, and less for the unlikely classes. Made for a teacher of another
    architecture, whose opinion of the unlikely classes is its own. The paper puts it on
    branches behind the student's stages as well, which are not built here. The formula
    is what the authors trained with; equation (6) of the paper raises the label's term
    alone. Their code takes the logarithm of a softmax, and hard labels only.
    """

    family = 'response'
    source = 'Hao et al., arXiv 2310.19444, equation (6), on the last scores'
    fails = (
        'It grows more certain than its teacher, so it does not teach calibrated '
        'scores; without the branches it is half of the method.'
    )
    soft_labels = True
    minimum_at_teacher = False  # unless exponent is 1

    tau: Positive = 1.0
    exponent: Positive = 1.5  # the paper has 1 to 1.5

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        if gt_labels.dim() == 1:
            gt_labels = F.one_hot(gt_labels, preds_S.size(1))
        p = log_probabilities(preds_T, self.tau).exp()
        wanted = (p + gt_labels) ** self.exponent - gt_labels
        found = -(wanted * log_probabilities(preds_S, self.tau)).sum(dim=1)
        return self.loss_weight * self.tau**2 * found.mean()
