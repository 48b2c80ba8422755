# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The label's own term for masks: cross-entropy and soft Dice."""

import torch
from torch import Tensor

from hkd_mm.registry import MODELS

from ..distill_loss import DistillLoss
from .class_maps import one_hot_masks, with_background


@MODELS.register_module()
class DiceBCELoss(DistillLoss):
    """Cross-entropy of the pixels and soft Dice of the classes.

    ``alpha * CE + beta * (1 - D)`` with ``D`` the mean, over the images and
    the classes without the background, of
    ``(2 sum(p y) + smooth) / (sum(p) + sum(y) + smooth)``, sums over the
    pixels of one image, of Milletari et al., arXiv 1606.04797, section 3,
    with ``p`` in place of ``p^2``. With one logit a pixel ``CE`` is the
    binary cross-entropy and ``p`` the sigmoid; with several the background is
    the first class of a softmax. Both are means over images of means over
    their pixels, so that several processes make the gradient of one.

    Pixels of label 255 count nowhere. ``smooth`` defines the Dice of a class
    that an image has not: 1 where nothing is predicted, and it falls with
    every pixel that is. An image of ignored pixels alone has no gradient.

    Args:
        alpha: weight of the cross-entropy, >= 0.
        beta: weight of the Dice term, >= 0.
        smooth: in pixels, > 0.
        loss_weight: factor on both.

    Raises:
        UserError: a value is out of its range, or labels or scores are those
            of whole images.
    """

    family = 'response'
    source = 'Milletari et al., arXiv 1606.04797, section 3'
    fails = (
        'Dice of an image counts a lesion of a few pixels as much as one of '
        'thousands, so small ones make its gradient large.'
    )
    dense = True
    minimum_at_teacher = False
    usual = dict(alpha=(0, 10), beta=(0, 10), smooth=(1e-6, 10))

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        smooth: float = 1.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        self.require(alpha >= 0, 'alpha', alpha, '>= 0; 1 is customary')
        self.require(beta >= 0, 'beta', beta, '>= 0; 1 is customary')
        self.require(smooth > 0, 'smooth', smooth, '> 0 pixels')
        self.alpha, self.beta, self.smooth = alpha, beta, smooth

    def forward(self, preds_S: Tensor, gt_labels: Tensor) -> dict[str, Tensor]:
        """Compare class scores with masks.

        Args:
            preds_S: logits (N, C, h, w), or (N, 1, h, w) of one class.
            gt_labels: (N, h, w) int64: 0 the background, 1 .. C - 1 (1 where
                C is 1), 255 ignored.

        Returns:
            ``loss_bce`` and ``loss_dice``, float32 scalars.

        Raises:
            RuntimeError: a label is out of range.
        """
        log_p = torch.log_softmax(with_background(preds_S), dim=1)
        truth, counted = one_hot_masks(gt_labels, log_p.shape[1])
        entropy = -(truth * log_p).sum(dim=(1, 2, 3))
        pixels = counted.sum(dim=(1, 2, 3)).clamp(min=1)
        p, y = log_p[:, 1:].exp() * counted, truth[:, 1:]
        both, either = (x.sum(dim=(2, 3)) for x in (p * y, p + y))
        dice = (2 * both + self.smooth) / (either + self.smooth)
        return dict(
            loss_bce=self.loss_weight * self.alpha * (entropy / pixels).mean(),
            loss_dice=self.loss_weight * self.beta * (1 - dice).mean(),
        )
