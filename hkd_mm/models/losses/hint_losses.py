# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Feature hints: FitNets, VID and activation boundaries."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hkd_mm.models.losses.distill_loss import DistillLoss, Shape
from hkd_mm.registry import MODELS

_NOTHING = 1e-20  # vectors below it count as zero


def unit_vectors(rows: Tensor) -> Tensor:
    """Each row (N, D) divided by its Euclidean length; zero stays zero.

    A row is scaled by its largest entry before it is squared, so that rows
    of any size are brought to length one, and the gradient at zero is finite.
    """
    largest = rows.detach().abs().amax(dim=1, keepdim=True)
    scaled = rows / torch.where(largest > _NOTHING, largest, 1.0)
    return scaled * (scaled.square().sum(dim=1, keepdim=True) + 1e-8).rsqrt()


def length_of_rows(rows: Tensor, eps: float = 1e-6) -> Tensor:
    """Euclidean length (N,) of each row of (N, D), smooth at zero.

    ``sqrt(sum(x^2) + eps^2) - eps``: zero at zero, where its gradient is
    zero, and less than the length by at most ``eps``.
    """
    return (rows.square().sum(dim=1) + eps**2).sqrt() - eps


@MODELS.register_module()
class FitNetLoss(DistillLoss):
    """Hint loss of Romero et al., equation (3), as a mean over the map.

    ``mean((r(s) - t)^2)``; the connector of the config is the regressor
    ``r``. The paper sums, halves and trains on the hint alone before it
    trains on the labels; here the mean makes the weight independent of the
    size of the image, and both terms are trained together, as all later
    comparisons do. mmrazor's ``L2Loss`` lets a gradient into the teacher
    and is not a number at a feature of zeros, so it is not called.

    Args:
        normalize: bring both features of an image to length one first and
            sum, not average, the squares: a value in [0, 4] that does not
            depend on the scale of the features.
    """

    family = 'feature'
    source = 'Romero et al., arXiv 1412.6550, equation (3)'
    fails = (
        'Below plain KD for most pairs of the CRD benchmark on CIFAR-100, '
        'and below the student alone for VGG13 to MobileNetV2: a small '
        'student spends itself on copying the map.'
    )
    features = 'map'

    def __init__(
        self, normalize: bool = False, loss_weight: float = 1.0
    ) -> None:
        super().__init__(loss_weight)
        self.normalize = normalize

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """From features (N, C[, H, W]) of one shape to a float32 scalar."""
        student = s_feature.float()
        teacher = t_feature.detach().float()
        if not self.normalize:
            return self.loss_weight * F.mse_loss(student, teacher)
        mine, other = (unit_vectors(x.flatten(1)) for x in (student, teacher))
        return self.loss_weight * (mine - other).square().sum(dim=1).mean()


@MODELS.register_module()
class VIDLoss(DistillLoss):
    """Variational information distillation of Ahn et al., section 2.

    The negative log-likelihood of the teacher's feature under a Gaussian
    around the student's prediction, without its constant:
    ``mean(log sigma_c + (t - mu(s))^2 / (2 sigma_c^2))``, with
    ``sigma_c^2 = softplus(a_c) + eps``. The variance of a
    channel is a parameter, trained and saved with the student; the connector
    of the config is ``mu``. The paper sums over the map; the mean makes the
    weight independent of the size of the image. The value may be negative.

    Args:
        variance: of every channel at the start, > eps.
        eps: least variance, > 0; bounds the loss from below.
    """

    family = 'feature'
    source = 'Ahn et al., arXiv 1904.05835, section 2, the Gaussian likelihood'
    fails = (
        'Below plain KD for all six pairs that the CRD benchmark on CIFAR-100 '
        'is usually quoted for; where the student cannot predict a channel, '
        'the variance grows and nothing is learnt of it.'
    )
    features = 'map'
    fixed = ('variance',)

    def __init__(
        self,
        variance: float = 5.0,
        eps: float = 1e-5,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        self.set_positive(eps=eps)
        self.require(variance > eps, 'variance', variance, f'> eps={eps}')
        self.variance = variance
        self.raw_variance: nn.Parameter | None = None

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        """Create the variances, one for each teacher channel."""
        softplus = self.variance - self.eps
        # the inverse of softplus, without exp of a large number
        raw = softplus + math.log(-math.expm1(-softplus))
        self.raw_variance = nn.Parameter(torch.full((teacher_shape[1],), raw))

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """From features (N, C[, H, W]) of one shape to a float32 scalar."""
        assert self.raw_variance is not None, 'build() comes first'
        error = s_feature.float() - t_feature.detach().float()
        variance = F.softplus(self.raw_variance.float()) + self.eps
        variance = variance.view(-1, *[1] * (error.dim() - 2))
        value = (variance.log() + error.square() / variance).mean() / 2
        return self.loss_weight * value


@MODELS.register_module()
class ABLoss(DistillLoss):
    """Activation boundaries of Heo et al. with a connector, as a mean.

    ``max(0, margin - s)^2`` where the teacher's neuron is on (``t > 0``),
    ``max(0, margin + s)^2`` where it is off, averaged over the map; ``s``
    is the student's feature after its connector and before any activation,
    ``t`` may be taken before or after a ReLU. The paper sums, and uses the
    loss alone to initialise the student before training on the labels; here
    both are trained together. mmrazor's ``ABLoss`` sums over the map, so
    that its weight depends on the size of the image, and computes in half
    precision under autocast.

    Args:
        margin: distance from the boundary that is asked for, > 0.
    """

    family = 'feature'
    source = 'Heo et al., arXiv 1811.03233, section 3, the alternative loss'
    fails = (
        "It says nothing of how strongly a neuron answers; in mmrazor's table "
        'for ImageNet (ResNet-50 to ResNet-18) it gains no more than '
        '0.2 %, less than a hint.'
    )
    features = 'map'
    minimum_at_teacher = False  # its answers may lie within the margin

    def __init__(self, margin: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.set_positive(margin=margin)

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """From features (N, C[, H, W]) of one shape to a float32 scalar."""
        student = s_feature.float()
        side = torch.where(t_feature.detach() > 0, 1.0, -1.0)
        missing = F.relu(self.margin - side * student)
        return self.loss_weight * missing.square().mean()
