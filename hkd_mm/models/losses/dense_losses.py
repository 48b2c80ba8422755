# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Losses on maps and masks: pixel KL, channel-wise, Dice + cross-entropy."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import NotNegative, Positive
from hkd_mm.models.connectors.feature_align_connector import check_maps
from hkd_mm.models.losses.distill_loss import DistillLoss
from hkd_mm.models.losses.kd_losses import soft_target_kl
from hkd_mm.registry import MODELS
from hkd_mm.structures.mask_samples import IGNORE


def with_background(logits: Tensor) -> Tensor:
    """One logit a pixel (N, 1, h, w) as two: the background's is zero.

    ``softmax((0, x))`` is ``sigmoid(x)`` for the class, and its cross-entropy the
    binary one of ``x``. Returns (N, max(C, 2), h, w), float32, the background first.
    """
    logits = logits.float()
    if logits.shape[1] > 1:
        return logits
    return F.pad(logits, (0, 0, 0, 0, 1, 0))


def one_hot_masks(gt_labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Masks (N, h, w), int64 in [0, classes) or 255, as one plane a class.

    (N, classes, h, w) float32, zero where a pixel is ignored, and (N, 1, h, w), 1
    where it counts.
    """
    counted = gt_labels != IGNORE
    # scatter_ has bounds checked on the device; a comparison has not
    planes = torch.zeros(
        (len(gt_labels), classes, *gt_labels.shape[1:]), device=gt_labels.device
    ).scatter_(1, (gt_labels * counted).unsqueeze(1), 1.0)
    counted = counted.unsqueeze(1).float()
    return planes * counted, counted


@MODELS.register_module()
class CWDLoss(DistillLoss):
    """Channel-wise distillation of Shu et al., equations (4) and (5).

    A channel becomes a distribution over the places of the map, ``phi_c =
    softmax_i(y_ci / tau)``, and the student's follows the teacher's: ``tau^2 / (N C) *
    sum_nc KL(phi(t_nc) || phi(s_nc))``. It serves feature maps (the paper's weight is
    50) and, where the mapping names the recorder ``logits``, maps of class scores (3;
    these need no connector). mmrazor's ``ChannelWiseDivergence`` lets a gradient into
    the teacher and computes in half precision under autocast.
    """

    family = 'feature'
    source = 'Shu et al., arXiv 2011.13256, equations (4) and (5)'
    fails = (
        'A channel is compared with itself at other places, so what it says '
        'of a whole image is lost, and one that is empty in the teacher '
        'teaches the student to be uniform.'
    )
    features = 'map'
    recommended_range = dict(tau=(1, 20), loss_weight=(0, 100))

    tau: Positive = 4.0

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        check_maps('CWDLoss', s_feature.shape)
        channels = (x.flatten(2).flatten(0, 1) for x in (s_feature, t_feature))
        return self.loss_weight * soft_target_kl(*channels, self.tau)


@MODELS.register_module()
class DiceBCELoss(DistillLoss):
    """Cross-entropy of the pixels and soft Dice of the classes.

    ``alpha * CE + beta * (1 - D)`` with ``D`` the mean, over the images and the classes
    without the background, of ``(2 sum(p y) + smooth) / (sum(p) + sum(y) + smooth)``,
    sums over the pixels of one image, of Milletari et al., arXiv 1606.04797, section 3,
    with ``p`` in place of ``p^2``. With one logit a pixel ``CE`` is the binary
    cross-entropy and ``p`` the sigmoid; with several the background is the first class
    of a softmax. Both are means over images of means over their pixels.

    Pixels of label 255 count nowhere. ``smooth`` defines the Dice of a class
    that an image has not: 1 where nothing is predicted, and it falls with
    every pixel that is. An image of ignored pixels alone has no gradient.
    """

    family = 'response'
    source = 'Milletari et al., arXiv 1606.04797, section 3'
    fails = (
        'Dice of an image counts a lesion of a few pixels as much as one of '
        'thousands, so small ones make its gradient large.'
    )
    dense = True
    minimum_at_teacher = False
    recommended_range = dict(alpha=(0, 10), beta=(0, 10), smooth=(1e-6, 10))

    alpha: NotNegative = 1.0  # weight of the cross-entropy
    beta: NotNegative = 1.0  # weight of the Dice term
    smooth: Positive = 1.0  # in pixels

    def forward(self, preds_S: Tensor, gt_labels: Tensor) -> dict[str, Tensor]:
        """From logits and masks: 0 the background, 1 to C - 1 (1 where C is 1), 255."""
        log_p = torch.log_softmax(with_background(preds_S), dim=1)
        truth, counted = one_hot_masks(gt_labels, log_p.shape[1])
        entropy = -(truth * log_p).sum(dim=(1, 2, 3))
        pixels = counted.sum(dim=(1, 2, 3)).clamp(min=1)
        p, y = log_p[:, 1:].exp() * counted, truth[:, 1:]
        both, either = (x.sum(dim=(2, 3)) for x in (p * y, p + y))
        dice = (2 * both + self.smooth) / (either + self.smooth)
        return self.scaled(
            loss_bce=self.alpha * (entropy / pixels).mean(),
            loss_dice=self.beta * (1 - dice).mean(),
        )


@MODELS.register_module()
class PixelKLLoss(DistillLoss):
    """Soft targets of Hinton et al., section 2, in every pixel.

    ``tau^2 * mean_i KL(softmax(t_i / tau) || softmax(s_i / tau))`` over the pixels
    ``i`` of the batch: the pixel-wise term of Liu et al., arXiv 1903.04197, equation
    (1), with the temperature of plain KD. With one logit a pixel it is the divergence
    of the two distributions ``(1 - sigmoid(x / tau), sigmoid(x / tau))``; a softmax
    over one class would be zero for any logits.
    """

    family = 'response'
    source = 'Liu et al., arXiv 1903.04197, equation (1)'
    fails = (
        'Most pixels are background, of which the teacher is certain: they '
        'say little, and the mean over all pixels makes lesions weigh little.'
    )
    dense = True

    tau: Positive = 4.0

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        if preds_S.shape != preds_T.shape:
            raise UserError(
                f'PixelKLLoss: the student gives {tuple(preds_S.shape)}, the '
                f'teacher {tuple(preds_T.shape)}; both need the same '
                'num_classes and masks of the same size'
            )
        pixels = (
            with_background(x).movedim(1, -1).flatten(0, 2) for x in (preds_S, preds_T)
        )
        return self.loss_weight * soft_target_kl(*pixels, self.tau)
