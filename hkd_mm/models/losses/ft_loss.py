# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Factor transfer: a paraphrase of the teacher's map, translated."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hkd_mm.models.connectors.feature_align_connector import resize_map
from hkd_mm.models.losses.distill_loss import DistillLoss, Shape
from hkd_mm.models.losses.hint_losses import unit_vectors
from hkd_mm.registry import MODELS


class Paraphraser(nn.Module):
    """Autoencoder of a teacher's map (Kim et al., arXiv 1802.04977, 3.1).

    Three convolutions and three transposed ones, all of stride 1, each
    followed by a leaky ReLU of slope 0.1; ``factors`` channels between them.
    """

    def __init__(self, channels: int, factors: int, kernel_size: int) -> None:
        super().__init__()
        self.encoder = conv_stack(
            [channels, channels, factors, factors], kernel_size
        )
        self.decoder = conv_stack(
            [factors, factors, channels, channels],
            kernel_size,
            nn.ConvTranspose2d,
        )

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of a map (N, C, H, W), and the map rebuilt from them."""
        factors = self.encoder(feature)
        return factors, self.decoder(factors)


def conv_stack(
    channels: Sequence[int],
    kernel_size: int,
    kind: type[nn.Module] = nn.Conv2d,
    norm: bool = False,
) -> nn.Sequential:
    """Convolutions that keep the size, with leaky ReLUs of slope 0.1.

    Args:
        channels: before, between and behind the layers.
        kernel_size: odd.
        kind: ``nn.Conv2d`` or ``nn.ConvTranspose2d``.
        norm: a BatchNorm behind each convolution.
    """
    layers: list[nn.Module] = []
    for before, behind in zip(channels, channels[1:]):
        padding = kernel_size // 2
        layers.append(
            kind(before, behind, kernel_size, padding=padding, bias=not norm)
        )
        if norm:
            layers.append(nn.BatchNorm2d(behind))
        layers.append(nn.LeakyReLU(0.1))
    return nn.Sequential(*layers)


@MODELS.register_module()
class FTLoss(DistillLoss):
    """Factor transfer of Kim et al., section 3.

    The paraphraser, an autoencoder, makes factors ``F_T`` of the teacher's
    map; the translator makes factors ``F_S`` of the student's. Two parts:
    ``loss_transfer = beta * mean(|F_T / |F_T|_2 - F_S / |F_S|_2|)``, one
    length an image, and
    ``loss_paraphraser = alpha * mean(|t - decoder(F_T)|^2 / |t|^2)``.

    The paper trains the paraphraser first and then freezes it. Here one run
    does both, so that no second schedule and checkpoint are needed: the
    second part trains the paraphraser alone, on the detached teacher, and the
    first sees its factors detached, so that they cannot come to meet the
    student. They move in the first epochs, which is the price. The division
    by ``|t|^2``, also ours, lets the paraphraser of a teacher with small
    features learn as fast as any; without it, it hardly moves. A student map
    of another size is brought to the teacher's before the translator. Both
    networks belong to this loss: they are trained and saved with the student.

    Args:
        rate: factor channels over teacher channels, in (0, 1].
        kernel_size: side of all kernels, odd; 3 in the paper, 1 where the
            teacher is so wide that 3 would be heavier than itself.
        alpha: weight of the paraphraser's part, > 0.
        beta: weight of the transfer, >= 0; 200 is that of the CRD benchmark.
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

    def __init__(
        self,
        rate: float = 0.5,
        kernel_size: int = 3,
        alpha: float = 1.0,
        beta: float = 200.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        self.require(0 < rate <= 1, 'rate', rate, 'in (0, 1]')
        odd = kernel_size > 0 and kernel_size % 2 == 1
        self.require(odd, 'kernel_size', kernel_size, 'odd: 1, 3, ...')
        self.rate, self.kernel_size = rate, kernel_size
        self.set_positive(alpha=alpha)
        self.set_not_negative(beta=beta)
        self.paraphraser: Paraphraser | None = None
        self.translator: nn.Module | None = None

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        """Create both networks for maps (N, C, H, W) and (N, C', H', W')."""
        channels = teacher_shape[1]
        factors = max(1, round(self.rate * channels))
        size = self.kernel_size
        self.paraphraser = Paraphraser(channels, factors, size)
        self.translator = conv_stack(
            [student_shape[1], student_shape[1], factors, factors],
            size,
            norm=True,
        )

    def forward(
        self, s_feature: Tensor, t_feature: Tensor
    ) -> dict[str, Tensor]:
        """From maps (N, C, H, W) and (N, C', H', W') to the two parts."""
        assert self.paraphraser is not None, 'build() comes first'
        teacher = t_feature.detach().float()
        student = resize_map(s_feature.float(), tuple(teacher.shape[2:]))
        factors, again = self.paraphraser(teacher)
        mine, other = (
            unit_vectors(x.float().flatten(1))
            for x in (self.translator(student), factors.detach())
        )
        error = _relative_error(again.float(), teacher).mean()
        return self.scaled(
            loss_transfer=self.beta * (mine - other).abs().mean(),
            loss_paraphraser=self.alpha * error,
        )


def _relative_error(again: Tensor, feature: Tensor) -> Tensor:
    """Squared error of each image (N, ...) over its squared length."""
    error, energy = (
        x.square().flatten(1).mean(dim=1) for x in (again - feature, feature)
    )
    return error / torch.where(energy > 1e-12, energy, 1.0)
