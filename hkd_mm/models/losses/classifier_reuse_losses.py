# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Losses through the teacher's last layer: SimKD, SRRL, KD++."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import NotNegative
from hkd_mm.models.losses.distill_loss import BatchLoss, DistillLoss, full_precision
from hkd_mm.models.recorders.network_recorders import check_channels, last_layer
from hkd_mm.registry import MODELS


@MODELS.register_module()
class SimKDLoss(DistillLoss):
    """Squared difference of the maps before pooling, ``mean (s - t)^2``.

    The only loss of SimKD: no label and no scores. The student is a
    :class:`SimKDClassifier`, to whose head :meth:`attach` copies the
    teacher's last layer; its map has the teacher's channels, and
    :class:`ResizeConnector` brings it to the teacher's size.
    """

    family = 'feature'
    source = 'Chen et al., arXiv 2203.14001 (SimKD), equation 3'
    fails = (
        'The deployed network keeps the projector and the layer of the '
        'teacher, so it is larger than the student; without a label it '
        'repeats what the teacher gets wrong.'
    )
    features = 'last_map'

    def attach(self, student: nn.Module, teacher: nn.Module) -> None:
        if not hasattr(student, 'reuse_last_layer'):
            raise UserError(
                'SimKDLoss trains no last layer of its own: '
                'model.architecture has to be a hkd_mm.SimKDClassifier, as '
                f'in configs/zoo/simkd, not a {type(student).__name__}'
            )
        student.reuse_last_layer(last_layer(teacher, self))

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        return self.loss_weight * F.mse_loss(s_feature, t_feature)


@MODELS.register_module()
class SRRLLoss(DistillLoss):
    """Softmax regression representation learning of Yang et al.

    Two parts: ``alpha * mean (s - t)^2``, the aligned pooled features
    matched (the paper's feature matching), and ``beta * mean (W s - W t)^2``,
    the scores that the teacher's frozen last layer ``W`` makes of both. The
    squared difference of scores is what the authors' code trains with;
    ``s`` comes through a connector, a linear layer by default.
    """

    family = 'feature'
    source = 'Yang et al., ICLR 2021 (SRRL), equations 2-5'
    fails = (
        'The teacher layer was fitted to the training images: where it is '
        'overconfident on them, the student inherits that along with the feature.'
    )
    features = 'vector'

    alpha: NotNegative = 1.0  # factor on feature matching
    beta: NotNegative = 1.0  # factor on the scores, not both 0

    def __post_init__(self) -> None:
        super().__post_init__()
        good = self.alpha + self.beta > 0
        self.require(good, 'beta', self.beta, '> 0 where alpha is 0')

    def attach(self, student: nn.Module, teacher: nn.Module) -> None:
        # a tuple, which nn.Module does not look into
        self._layer = (last_layer(teacher, self),)

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> dict[str, Tensor]:
        (layer,) = self._layer
        check_channels(layer, t_feature, self)
        parts = {}
        if self.alpha:
            parts['loss_feature'] = self.alpha * F.mse_loss(s_feature, t_feature)
        if self.beta:
            # the bias is in both scores and cancels out
            scores = F.linear(s_feature - t_feature, layer.weight.detach().float())
            parts['loss_score'] = self.beta * scores.float().square().mean()
        return self.scaled(**parts)


_LEAST = 1e-6  # length of a feature that is divided by


@MODELS.register_module()
class NormDirectionLoss(BatchLoss):
    r"""The ND loss of KD++ and DKD++ (Wang et al., section 3).

    ``mean_i (1 - f_S,i . e_y(i) / max(|f_S,i|, |f_T,i|))``, where ``e_k`` is
    the unit vector of the mean of the teacher's embeddings of class ``k``: a
    student shorter than the teacher grows, one that is longer only turns.

    The authors compute the means in a pass over the training set before the training.
    Here they are running means of what the teacher has shown in training forwards, this
    batch included: after an epoch those over the training set as it is augmented. A
    class that was never seen (only possible in eval mode) has the zero vector: the loss
    is 1 and pulls nowhere. Means and counts are in the checkpoint.

    Args:
        gather: the means are of all processes' batches; else each process
            has those of its own, and the checkpoint the first one's.
    """

    family = 'response'
    source = 'Wang et al., arXiv 2305.17007, section 3 (ND loss)'
    features = 'vector'
    fails = (
        'classes of several kinds of images: one centre a class pulls them '
        'together; and weak teachers, whose centres lie close to each other'
    )
    minimum_at_teacher = False  # the centre pulls, not the teacher's feature
    smallest_batch = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.register_buffer('centres', torch.zeros(0, 0))
        self.register_buffer('seen', torch.zeros(0))

    def attach(self, student: nn.Module, teacher: nn.Module) -> None:
        layer = last_layer(teacher, self)
        self.centres = torch.zeros(layer.weight.shape)
        self.seen = torch.zeros(layer.out_features)

    def forward(
        self, s_feature: Tensor, t_feature: Tensor, gt_labels: Tensor
    ) -> Tensor:
        """From embeddings (N, D), (N, D) and labels to a float32 scalar.

        The teacher's are what its last layer is given.
        """
        shape, channels = tuple(t_feature.shape), self.centres.size(1)
        expected = f'(N, {channels}), what the last layer of the teacher takes'
        self.require(shape[1] == channels, 't_feature', shape, expected)
        one_hot = F.one_hot(gt_labels, len(self.seen)).float()
        if self.training:
            with torch.no_grad():
                teacher, new = self.gathered(t_feature, one_hot)
                with full_precision(teacher):
                    sums, new = new.T @ teacher, new.sum(dim=0)
                self.seen += new
                share = self.seen.clamp_min(1).unsqueeze(1)
                self.centres += (sums - new.unsqueeze(1) * self.centres) / share
        with full_precision(s_feature):
            centre = one_hot @ self.centres
        length = torch.maximum(s_feature.norm(dim=1), t_feature.norm(dim=1))
        along = (s_feature * F.normalize(centre, dim=1)).sum(dim=1)
        return self.loss_weight * (1 - along / length.clamp_min(_LEAST)).mean()
