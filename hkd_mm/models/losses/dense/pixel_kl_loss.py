# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Soft targets for every pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.registry import MODELS

from ..distill_loss import DistillLoss
from .class_maps import with_background


@MODELS.register_module()
class PixelKLLoss(DistillLoss):
    """Soft targets of Hinton et al., section 2, in every pixel.

    ``tau^2 * mean_i KL(softmax(t_i / tau) || softmax(s_i / tau))`` over the
    pixels ``i`` of the batch: the pixel-wise term of Liu et al., arXiv
    1903.04197, equation (1), with the temperature of plain KD. With one logit
    a pixel it is the divergence of the two distributions
    ``(1 - sigmoid(x / tau), sigmoid(x / tau))``; a softmax over one class
    would be zero whatever the net says.

    Args:
        tau: temperature, > 0.
        loss_weight: factor on the returned scalar.

    Raises:
        UserError: a value is out of its range, or the two nets say something
            of other pixels or classes.
    """

    family = 'response'
    source = 'Liu et al., arXiv 1903.04197, equation (1)'
    fails = (
        'Most pixels are background, of which the teacher is certain: they '
        'say little, and the mean over all pixels makes lesions weigh little.'
    )
    dense = True

    def __init__(self, tau: float = 4.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.require(tau > 0, 'tau', tau, '> 0; 4 is customary')
        self.tau = tau

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Compare the class scores of all pixels.

        Args:
            preds_S: student logits (N, C, h, w).
            preds_T: the same of the teacher; no gradient flows into them.

        Returns:
            Float32 scalar.
        """
        if preds_S.shape != preds_T.shape:
            raise UserError(
                f'PixelKLLoss: the student gives {tuple(preds_S.shape)}, the '
                f'teacher {tuple(preds_T.shape)}; both need the same '
                'num_classes and masks of the same size'
            )
        student, teacher = (
            torch.log_softmax(with_background(x) / self.tau, dim=1)
            for x in (preds_S, preds_T.detach())
        )
        pixels = student.numel() // student.shape[1]
        divergence = F.kl_div(
            student, teacher, reduction='sum', log_target=True
        )
        return self.loss_weight * self.tau**2 * divergence / pixels
