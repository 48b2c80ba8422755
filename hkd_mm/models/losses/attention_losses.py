# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Attention maps: AT, CAT-KD and FBKD."""

import torch.nn.functional as F
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import Count, NotNegative, Positive
from hkd_mm.models.connectors.feature_align_connector import check_maps, resize_map
from hkd_mm.models.losses.distill_loss import DistillLoss, full_precision
from hkd_mm.models.losses.hint_losses import length_of_rows
from hkd_mm.models.losses.relation_losses import unit
from hkd_mm.models.recorders.network_recorders import check_channels, last_layer
from hkd_mm.registry import MODELS


@MODELS.register_module()
class ATLoss(DistillLoss):
    """Activation-based attention transfer of Zagoruyko and Komodakis.

    Equation (1): the attention map of a stage is ``Q = sum_c |A_c|^2``; equation (2):
    ``beta / 2 * sum_j mean((Q_S / |Q_S| - Q_T / |Q_T|)^2)`` over the stages ``j``, with
    one length an image; squared as in the paper's code, and the mean, by which the
    paper divides its beta of 1000. Where the maps of a stage differ in size, both are
    pooled to the smaller. mmrazor's ``ATLoss`` refuses that and knows one stage only.
    """

    family = 'feature'
    source = 'Zagoruyko and Komodakis, arXiv 1612.03928, equations (1), (2)'
    fails = (
        'Nets of another family look elsewhere: below the student alone for VGG13 to '
        'MobileNetV2 in the CRD benchmark on CIFAR-100 (59.4 against 64.6 %).'
    )
    features = 'maps'
    recommended_range = dict(beta=(1, 1e5), loss_weight=(0, 100))
    aligned = False

    beta: NotNegative = 1000.0  # weight of the sum over the stages

    def forward(self, s_feature: list[Tensor], t_feature: list[Tensor]) -> Tensor:
        if len(s_feature) != len(t_feature):
            raise UserError(
                f'ATLoss: {len(s_feature)} student maps and {len(t_feature)} of the '
                'teacher; record as many stages of both'
            )
        check_maps('ATLoss', *(x.shape for x in (*s_feature, *t_feature)))
        total = 0.0
        for pair in zip(s_feature, t_feature):
            size = tuple(map(min, *(x.shape[2:] for x in pair)))
            maps = (x.square().mean(1, keepdim=True) for x in pair)
            mine, other = (unit(resize_map(x, size).flatten(1)) for x in maps)
            total = total + F.mse_loss(mine, other)
        return self.loss_weight * self.beta / 2 * total


@MODELS.register_module()
class CATKDLoss(DistillLoss):
    """Class attention transfer of Guo et al.

    The class activation map of class ``k`` is ``sum_c W[k, c] f[c]``, with ``f`` the
    map that is pooled for the last layer and ``W`` that layer's weight, each network's
    own. The maps are average pooled to ``size`` x ``size`` and divided by their L2
    norm; the loss is their mean squared difference (the authors' weights: 10 to 400).
    """

    family = 'feature'
    source = 'Guo et al., CVPR 2023 (CAT-KD), section 3'
    fails = (
        'It says where each class is seen but not how strongly, so it needs '
        'the label beside it, and networks that end in global average pooling '
        'and one linear layer.'
    )
    features = 'last_map'
    aligned = False
    # equal maps of features are equal activations only under equal layers
    minimum_at_teacher = False
    trains_last_layer = True

    size: Count = 2  # side of the pooled activation maps, in cells

    def attach(self, student: nn.Module, teacher: nn.Module) -> None:
        # a tuple, which nn.Module does not look into
        self._layers = last_layer(student, self), last_layer(teacher, self)

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        mine, other = self._layers
        check_channels(mine, s_feature, self)
        check_channels(other, t_feature, self)
        return self.loss_weight * F.mse_loss(
            self._activations(s_feature, mine.weight),
            self._activations(t_feature, other.weight.detach()),
        )

    def _activations(self, feature: Tensor, weight: Tensor) -> Tensor:
        # pooling and the layer are linear: the small map first
        pooled = resize_map(feature, (self.size, self.size))
        maps = F.conv2d(pooled, weight.float()[:, :, None, None])
        return F.normalize(maps.float().flatten(2), dim=2)


@MODELS.register_module()
class FBKDLoss(DistillLoss):
    """Feature-based distillation of Zhang and Ma, section 3.

    With the attentions ``G^s = mean_c |A|`` and ``G^c = mean_hw |A|`` and the masks
    ``M^s = H W softmax((G^s_S + G^s_T) / tau)``, ``M^c = C softmax((G^c_S + G^c_T) /
    tau)``, three parts, each a mean over the batch of one Euclidean length an image:

    - ``loss_attention = alpha * (|G^s_S - G^s_T| + |G^c_S - G^c_T|)``;
    - ``loss_masked = beta * |sqrt(M^s M^c) (A_S - A_T)|``;
    - ``loss_non_local = gamma * |R_S - R_T|``, where ``R`` is a non-local block: for
      each pixel the features of all, weighted by ``softmax(A^T A / sqrt(C))``.

    The paper leaves the pairwise function of its non-local block open; this one, the
    Gaussian, has no parameters. mmrazor's ``FBKDLoss`` is not a number at equality,
    grows with the root of the batch, trains the teacher's non-local block, wants equal
    channels and leaves the mask over the channels out. The default weights are those of
    the authors' code for detectors, whose maps are far larger.
    """

    family = 'feature'
    source = 'Zhang and Ma, ICLR 2021, openreview uKhGRvM8QNH, section 3'
    fails = (
        'Made for detectors, where few pixels of many count; where the lesion fills '
        'the image, masks say little, and the paper has no result on classification.'
    )
    features = 'map'
    recommended_range = dict(tau=(0.1, 2))  # of the masks

    tau: Positive = 0.5  # temperature of the masks
    alpha: NotNegative = 4e-3  # weight of the attentions
    beta: NotNegative = 7e-5  # weight of the masked features
    gamma: NotNegative = 7e-5  # weight of the non-local features

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> dict[str, Tensor]:
        student, teacher = s_feature.flatten(2), t_feature.flatten(2)  # (N, C, H * W)
        attention, masks = 0.0, 1.0
        for dim in (1, 2):
            mine, other = (x.abs().mean(dim) for x in (student, teacher))
            attention = attention + length_of_rows(mine - other)
            # the mask says where to look, not what to say
            both = (mine.detach() + other) / self.tau
            mask = both.size(1) * both.softmax(dim=1)
            masks = masks * mask.unsqueeze(dim)
        masked = masks.sqrt() * (student - teacher)
        relations = _non_local(student) - _non_local(teacher)
        masked, relations = (length_of_rows(x.flatten(1)) for x in (masked, relations))
        return self.scaled(
            loss_attention=self.alpha * attention.mean(),
            loss_masked=self.beta * masked.mean(),
            loss_non_local=self.gamma * relations.mean(),
        )


def _non_local(feature: Tensor) -> Tensor:
    """Gaussian non-local block without parameters, (N, C, D) to (N, C, D)."""
    with full_precision(feature):
        likeness = feature.transpose(1, 2) @ feature
        weights = (likeness / feature.size(1) ** 0.5).softmax(dim=2)
        return feature @ weights.transpose(1, 2)
