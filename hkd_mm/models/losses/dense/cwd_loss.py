# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Channel-wise distillation: where in the image each channel looks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.registry import MODELS

from ..distill_loss import DistillLoss


@MODELS.register_module()
class CWDLoss(DistillLoss):
    """Channel-wise distillation of Shu et al., equations (4) and (5).

    A channel becomes a distribution over the places of the map,
    ``phi_c = softmax_i(y_ci / tau)``, and the student's follows the
    teacher's: ``tau^2 / (N C) * sum_nc KL(phi(t_nc) || phi(s_nc))``. It
    serves feature maps (the paper's weight is 50) and, where the mapping
    names the recorder ``logits``, maps of class scores (3; these need no
    connector). mmrazor's ``ChannelWiseDivergence`` lets a gradient into the
    teacher and computes in half precision under autocast.

    Args:
        tau: temperature, > 0.
        loss_weight: factor on the returned scalar.

    Raises:
        UserError: a value is out of its range, or a recorder delivers no
            map.
    """

    family = 'feature'
    source = 'Shu et al., arXiv 2011.13256, equations (4) and (5)'
    fails = (
        'A channel is compared with itself at other places, so what it says '
        'of a whole image is lost, and one that is empty in the teacher '
        'teaches the student to be uniform.'
    )
    features = 'map'
    usual = dict(tau=(1, 20), loss_weight=(0, 100))

    def __init__(self, tau: float = 4.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.require(tau > 0, 'tau', tau, '> 0; the paper has 4')
        self.tau = tau

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Compare two maps, channel by channel.

        Args:
            s_feature: (N, C, H, W), in the teacher's shape.
            t_feature: the same of the teacher; no gradient flows into it.

        Returns:
            Float32 scalar.
        """
        if s_feature.dim() != 4:
            raise UserError(
                'CWDLoss compares maps (N, C, H, W), but a recorder delivers '
                f'{tuple(s_feature.shape)}; record a stage with maps'
            )
        student, teacher = (
            torch.log_softmax(x.float().flatten(2) / self.tau, dim=2)
            for x in (s_feature, t_feature.detach())
        )
        channels = student.shape[0] * student.shape[1]
        divergence = F.kl_div(
            student, teacher, reduction='sum', log_target=True
        )
        return self.loss_weight * self.tau**2 * divergence / channels
