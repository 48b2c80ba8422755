# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Feature hints: FitNets, VkD, VID, AB, OFD and factor transfer."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hkd_mm.models.arguments import Count, Fraction, NotNegative, Positive
from hkd_mm.models.connectors.feature_align_connector import Shape, resize_map
from hkd_mm.models.losses.distill_loss import DistillLoss
from hkd_mm.models.losses.relation_losses import unit
from hkd_mm.registry import MODELS


def length_of_rows(rows: Tensor, eps: float = 1e-6) -> Tensor:
    """Euclidean length (N,) of each row of (N, D), smooth at zero.

    ``sqrt(sum(x^2) + eps^2) - eps``: zero at zero, where its gradient is
    zero, and less than the length by at most ``eps``.
    """
    return (rows.square().sum(dim=1) + eps**2).sqrt() - eps


@MODELS.register_module()
class FitNetLoss(DistillLoss):
    """Hint loss of Romero et al., equation (3), as a mean over the map.

    ``mean((r(s) - t)^2)``; the connector of the config is the regressor ``r``. The
    paper sums, halves and trains on the hint alone before it trains on the labels; here
    both are trained together, as in all later comparisons. mmrazor's ``L2Loss`` lets a
    gradient into the teacher and is not a number at a feature of zeros.
    """

    family = 'feature'
    source = 'Romero et al., arXiv 1412.6550, equation (3)'
    fails = (
        'Below plain KD for most pairs of the CRD benchmark on CIFAR-100, '
        'and below the student alone for VGG13 to MobileNetV2: a small '
        'student spends itself on copying the map.'
    )
    features = 'map'

    # bring both features of an image to length one first and sum, not average, the
    # squares: a value in [0, 4] that does not depend on the scale of the features
    normalize: bool = False

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        if not self.normalize:
            return self.loss_weight * F.mse_loss(s_feature, t_feature)
        mine, other = (unit(x.flatten(1)) for x in (s_feature, t_feature))
        return self.loss_weight * (mine - other).square().sum(dim=1).mean()


@MODELS.register_module()
class VkDLoss(DistillLoss):
    """Projected features against the normalized teacher, Miles et al.

    ``mean huber(P s, layer_norm(t))`` over images and channels, the Huber loss that
    turns into a line at 1. ``P`` is the :class:`OrthogonalConnector` of the config;
    the layer norm, over the channels and without weights, takes out the teacher's scale
    and its mean over the channels, which would rule otherwise.
    """

    family = 'feature'
    source = 'Miles et al., arXiv 2403.06213, section 3'
    fails = (
        'A student wider than its teacher loses the directions that the projection '
        'drops; pooled features say nothing of where a lesion is.'
    )
    features = 'vector'
    minimum_at_teacher = False  # but at the normalized one

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        target = F.layer_norm(t_feature, t_feature.shape[1:])
        return self.loss_weight * F.smooth_l1_loss(s_feature, target)


@MODELS.register_module()
class VIDLoss(DistillLoss):
    """Variational information distillation of Ahn et al., section 2.

    The negative log-likelihood of the teacher's maps under a Gaussian around the
    student's prediction, without its constant: the sum over the stages of ``mean(log
    sigma_c + (t - mu(s))^2 / (2 sigma_c^2))``, with ``sigma_c^2 = softplus(a_c) +
    eps``. The variance of a channel is a parameter, saved with the student; the
    connector of the config is ``mu``. The paper sums over the map as well. The value
    may be negative.
    """

    family = 'feature'
    source = 'Ahn et al., arXiv 1904.05835, section 2, the Gaussian likelihood'
    fails = (
        'Below plain KD for all six pairs that the CRD benchmark on CIFAR-100 '
        'is usually quoted for; where the student cannot predict a channel, '
        'the variance grows and nothing is learnt of it.'
    )
    features = 'maps'
    fixed = ('variance',)

    variance: Positive = 5.0  # of every channel at the start, > eps
    eps: Positive = 1e-5  # least variance; bounds the loss from below

    def __post_init__(self) -> None:
        super().__post_init__()
        good = self.variance > self.eps
        self.require(good, 'variance', self.variance, f'> eps={self.eps}')

    def build(self, student_shape: list[Shape], teacher_shape: list[Shape]) -> None:
        softplus = self.variance - self.eps
        # the inverse of softplus, without exp of a large number
        raw = softplus + math.log(-math.expm1(-softplus))
        self.raw_variance = nn.ParameterList(
            torch.full((shape[1],), raw) for shape in teacher_shape
        )

    def forward(self, s_feature: list[Tensor], t_feature: list[Tensor]) -> Tensor:
        total = 0.0
        for raw, mine, other in zip(self.raw_variance, s_feature, t_feature):
            variance = F.softplus(raw.float()) + self.eps
            variance = variance.view(-1, *[1] * (other.dim() - 2))
            error = (mine - other).square() / variance
            total = total + (variance.log() + error).mean() / 2
        return self.loss_weight * total


@MODELS.register_module()
class ABLoss(DistillLoss):
    """Activation boundaries of Heo et al. with a connector, as a mean.

    ``max(0, margin - s)^2`` where the teacher's neuron is on (``t > 0``), ``max(0,
    margin + s)^2`` where it is off, averaged over the map; ``s`` is the student's
    feature after its connector and before any activation, ``t`` may be taken before or
    after a ReLU. The paper sums, and uses the loss alone to initialise the student.
    mmrazor's ``ABLoss`` sums as well, and computes in half precision under autocast.
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

    margin: Positive = 1.0  # distance from the boundary that is asked for

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        side = torch.where(t_feature > 0, 1.0, -1.0)
        missing = F.relu(self.margin - side * s_feature)
        return self.loss_weight * missing.square().mean()


def margins_of(network: nn.Module) -> dict[int, Tensor]:
    """Margins at the ends of the stages of a classifier.

    Returns:
        Channels -> margins (channels,), float32. For timm the last BatchNorm
        of each stage, for others the last one of each width; where two have
        the same width, the deeper.
    """
    inner = getattr(network, 'model', None)
    info = getattr(inner, 'feature_info', None)
    norms = _norms_of(network)
    if info:
        stages = (_norms_of(inner.get_submodule(item['module'])) for item in info)
        norms = [stage[-1] for stage in stages if stage]
    return {norm.num_features: expected_negative(norm) for norm in norms}


def _norms_of(network: nn.Module) -> list[_BatchNorm]:
    found = (m for m in network.modules() if isinstance(m, _BatchNorm))
    return [norm for norm in found if norm.affine]


def expected_negative(norm: _BatchNorm) -> Tensor:
    """Mean of the negative outputs of a BatchNorm: (channels,), <= 0.

    Its outputs are taken to be normal with mean ``beta`` (the shift) and
    standard deviation ``|gamma|`` (the scale), so this is
    ``beta - |gamma| * phi(beta / |gamma|) / Phi(-beta / |gamma|)``.
    """
    shift = norm.bias.detach().double()
    scale = norm.weight.detach().double().abs().clamp(min=1e-12)
    # beyond 100 standard deviations nothing negative is left
    z = (shift / scale).clamp(max=100.0)
    log_density = -z.square() / 2 - math.log(2 * math.pi) / 2
    ratio = (log_density - torch.special.log_ndtr(-z)).exp()
    mean = (shift - scale * ratio).where(z < 100.0, 0.0)
    return mean.clamp(max=0).float()


@MODELS.register_module()
class OFDLoss(DistillLoss):
    """Margin ReLU and partial L2 of Heo et al., section 3.

    The target is ``max(t, m_c)`` with a margin ``m_c < 0`` a channel, the expected
    value of the negative answers; the distance is ``(s - target)^2``, but 0 where ``s
    <= target <= 0``, averaged over the map. As in the paper, the margin follows from
    the teacher's BatchNorm at the end of the stage (:func:`margins_of`). A teacher
    without one, or with ``fold_bn``, gets the mean of the negative answers in the
    batch.

    Recorders deliver most stages behind their ReLU, where all that was negative is 0:
    such a neuron's target is the margin itself. The paper sums over maps of all stages;
    here each further stage is a further loss, and the paper's weight of 1e-3 on a sum
    is ``1e-3 C H W`` of its teacher's map, 16.4 for 256 x 8 x 8. mmrazor's ``OFDLoss``
    sums, and its margin needs an algorithm class of its own.
    """

    family = 'feature'
    source = 'Heo et al., arXiv 1904.01866, section 3, margin ReLU, partial L2'
    fails = (
        'It is made for maps before a ReLU; behind one, the negative answers can only '
        'be guessed from the BatchNorm, and residual blocks add to what that gives.'
    )
    features = 'map'

    def __post_init__(self) -> None:
        super().__post_init__()
        self.register_buffer('margin', None, persistent=False)

    def attach(self, student: nn.Module, teacher: nn.Module) -> None:
        self._margins = margins_of(teacher)

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        channels = teacher_shape[1]
        self.margin = self._margins.get(channels)
        if self.margin is None:
            self.warn_once(
                'margin',
                f'no BatchNorm of {channels} channels ends a stage of '
                'the teacher (teacher_inference.fold_bn?); the margin is the '
                'mean of the negative answers in a batch, 0 behind a ReLU',
            )

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        margin = self.margin
        if margin is None:  # the mean of each channel, 0 where none is negative
            dims = [dim for dim in range(t_feature.dim()) if dim != 1]
            count = (t_feature < 0).sum(dims).clamp(min=1)
            margin = t_feature.clamp(max=0).sum(dims) / count
        margin = margin.float().view(-1, *[1] * (t_feature.dim() - 2))
        hidden = t_feature == 0  # by a ReLU
        target = torch.where(hidden, margin, torch.maximum(t_feature, margin))
        near = (s_feature <= target) & (target <= 0)
        distance = (s_feature - target).square().masked_fill(near, 0.0)
        return self.loss_weight * distance.mean()


def conv_stack(
    channels: Sequence[int],
    kernel_size: int,
    kind: type[nn.Module] = nn.Conv2d,
    norm: bool = False,
) -> nn.Sequential:
    """Convolutions that keep the size, with leaky ReLUs of slope 0.1.

    ``channels`` are before, between and behind the layers; ``kernel_size`` is odd.
    """
    layers: list[nn.Module] = []
    size = dict(kernel_size=kernel_size, padding=kernel_size // 2)
    for before, behind in zip(channels, channels[1:]):
        layers.append(kind(before, behind, **size, bias=not norm))
        layers += [nn.BatchNorm2d(behind)] * norm + [nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)


@MODELS.register_module()
class FTLoss(DistillLoss):
    """Factor transfer of Kim et al., section 3.

    The paraphraser, an autoencoder, makes factors ``F_T`` of the teacher's map; the
    translator makes factors ``F_S`` of the student's. Two parts:
    ``loss_transfer = beta * mean(|F_T / |F_T|_2 - F_S / |F_S|_2|)``, one length an
    image, and ``loss_paraphraser = alpha * mean(|t - decoder(F_T)|^2 / |t|^2)``.

    The paper trains the paraphraser first and then freezes it. Here one run does both:
    the second part trains the paraphraser alone, on the detached teacher, and the first
    sees its factors detached, which move in the first epochs. The division by
    ``|t|^2``, also ours, lets the paraphraser of a teacher with small features learn as
    fast as any. A student map of another size is brought to the teacher's before the
    translator. Both networks are trained and saved with the student.
    """

    family = 'feature'
    source = 'Kim et al., arXiv 1802.04977, section 3, paraphraser, translator'
    fails = (
        'Untrained factors say little, so in a run of few epochs or images '
        'the student follows a target that still moves.'
    )
    features = 'map'
    fixed = ('rate',)
    aligned = False
    minimum_at_teacher = False  # the translator makes equal maps unlike

    # factor channels over teacher channels
    rate: Fraction = 0.5
    # side of all kernels, odd; 3 in the paper, 1 where the teacher is so wide that 3
    # would be heavier than itself
    kernel_size: Count = 3
    alpha: Positive = 1.0  # weight of the paraphraser's part
    # weight of the transfer; the authors', whose mean is over the factors as here. The
    # CRD benchmark's 200 belongs to a mean over the factors' attention map
    beta: NotNegative = 500.0

    def __post_init__(self) -> None:
        super().__post_init__()
        odd = self.kernel_size % 2 == 1
        self.require(odd, 'kernel_size', self.kernel_size, 'odd: 1, 3, ...')

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        channels = teacher_shape[1]
        factors = max(1, round(self.rate * channels))
        size = self.kernel_size
        # section 3.1: three convolutions and three transposed ones, all of stride 1
        widths = [channels, channels, factors, factors]
        self.paraphraser = nn.ModuleDict(
            dict(
                encoder=conv_stack(widths, size),
                decoder=conv_stack(widths[::-1], size, nn.ConvTranspose2d),
            )
        )
        widths = [student_shape[1], student_shape[1], factors, factors]
        self.translator = conv_stack(widths, size, norm=True)

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> dict[str, Tensor]:
        """From maps (N, C, H, W) and (N, C', H', W') to the two parts."""
        student = resize_map(s_feature, t_feature.shape[2:])
        factors = self.paraphraser.encoder(t_feature)
        again = self.paraphraser.decoder(factors)
        both = self.translator(student), factors.detach()
        mine, other = (unit(x.float().flatten(1)) for x in both)
        both = again - t_feature, t_feature
        error, energy = (x.float().square().flatten(1).mean(dim=1) for x in both)
        error = error / torch.where(energy > 1e-12, energy, 1.0)
        return self.scaled(
            loss_transfer=self.beta * (mine - other).abs().mean(),
            loss_paraphraser=self.alpha * error.mean(),
        )
