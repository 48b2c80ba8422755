# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Distillation without labels, over a queue of the teacher's vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hkd_mm.models.arguments import Count, Positive
from hkd_mm.models.connectors.feature_align_connector import Shape
from hkd_mm.models.losses.distill_loss import BatchLoss, full_precision
from hkd_mm.models.losses.relation_losses import unit
from hkd_mm.registry import MODELS

_EMPTY = -1e9  # score of a place of the queue that holds nothing yet
_UNKNOWN = 1024  # vectors, where nobody counted the training images


@MODELS.register_module()
class QueueDistillLoss(BatchLoss):
    """Similarities to a queue of the teacher's vectors, as SEED has them.

    ``mean_i KL(softmax(Q t_i / teacher_tau) || softmax(Q s_i / tau))`` with vectors of
    length 1 and ``Q`` (K, D) the teacher's of the last K images: each is a pseudo-class
    and the teacher says how alike an image is to it. It needs no label. The gradient is
    that of the paper's cross-entropy, the value lacks the entropy of the target.

    With ``own`` the teacher's vector of the image itself is put in front of the queue,
    ``[s_i . t_i, Q s_i]`` and ``[1, Q t_i]``, as in SEED, whose ``tau`` is 0.2 and
    ``teacher_tau`` 0.01; below that the target is one-hot and the loss InfoNCE. The
    defaults have one temperature and no vector of its own, for which a student that
    equals its teacher is at the minimum.

    A batch enters the queue after it has been judged; the first one is judged against
    itself, where SEED begins with random vectors. Only the teacher's vectors are kept,
    in float32, the newest first, with the weights of the student in
    checkpoints. With ``gather`` the batches of all processes enter it.
    """

    family = 'relation'
    source = 'Fang et al., arXiv 2101.04731 (SEED), section 3'
    fails = (
        'A queue about as long as the training set makes pseudo-classes of single '
        'images and holds earlier views of an image against it; one of few images '
        'tells the student little.'
    )
    features = 'vector'
    smallest_batch = 1  # the queue has others to compare with
    recommended_range = dict(tau=(0.02, 1), teacher_tau=(0.005, 1))

    tau: Positive = 0.07  # temperature of the student's similarities
    teacher_tau: Positive | None = None  # None: tau
    own: bool = False  # compare with the teacher's vector of the image as well
    # vectors that are kept, fewer than there are training images; None is a quarter of
    # them (hkd_mm.config.data_summary.queue_size), 1024 where nobody counts
    queue: Count | None = None

    def build(self, student_shape: Shape, teacher_shape: Shape) -> None:
        vectors = torch.zeros(self.queue or _UNKNOWN, teacher_shape[1])
        self.register_buffer('past', vectors)
        self.register_buffer('filled', torch.tensor(0))  # places, from the first on

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """From vectors (N, D) of both, the student's behind its connector."""
        with full_precision(s_feature):
            mine, other = unit(s_feature), unit(t_feature)
            (new,) = self.gathered(other)
            later = torch.cat([new, self.past])[: len(self.past)]
            more = (self.filled + len(new)).clamp(max=len(self.past))
            # without a look at the number, for which a GPU would wait
            fresh = self.filled == 0
            queue = torch.where(fresh, later, self.past)
            known = torch.where(fresh, more, self.filled)
            empty = torch.arange(len(queue), device=queue.device) >= known
            scores = [
                (vectors @ queue.T).masked_fill(empty, _EMPTY)
                for vectors in (mine, other)
            ]
            if self.own:
                scores = [
                    torch.cat([(vectors * other).sum(1, keepdim=True), found], 1)
                    for vectors, found in zip((mine, other), scores)
                ]
            student = F.log_softmax(scores[0] / self.tau, 1)
            teacher = F.log_softmax(scores[1] / (self.teacher_tau or self.tau), 1)
            loss = F.kl_div(student, teacher, reduction='batchmean', log_target=True)
        if self.training:
            self.past.copy_(later)
            self.filled.copy_(more)
        return self.loss_weight * loss
