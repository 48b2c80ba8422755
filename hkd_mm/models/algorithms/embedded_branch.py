# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A branch between peers that teaches them what they know together."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from hkd_mm.models.connectors.feature_align_connector import (
    check_maps,
    resize_map,
)
from hkd_mm.models.recorders.guarded_recorders import GuardedRecorders
from hkd_mm.registry import MODELS


@MODELS.register_module()
class EmbeddedBranch(BaseModule):
    """Ensemble and adaptive fusion of all peers: one more to learn from.

    After embedded mutual learning (EML, Li et al., Applied Intelligence 53,
    2023) as described by Zeng et al. (DSP-KD, Bioengineering 11(1), 2024,
    section 2.2): an ensemble branch and an adaptive fusion branch between two
    parallel peers, which joins their feature maps and their class scores.
    The shapes are ours. Each peer's last map is brought to the size and the
    channels of the first peer's by a 1x1 convolution; their sum, weighted
    image by image, is the fused map. The scores are a weighted sum too: of
    the peers' and of those that a linear layer makes of the fused map. The
    branch learns from the label alone, and no gradient of it reaches a peer.

    It looks like a classifier (``backbone``, ``head``), so that
    ``hkd_mm.Logits``, ``hkd_mm.Feature`` and ``hkd_mm.Pooled`` record it.

    Args:
        loss: of its scores on the label, from ``preds_S`` and ``gt_labels``.

    Raises:
        UserError: a peer's last feature is no map.
    """

    def __init__(
        self, loss: dict | None = None, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.label_loss = MODELS.build(
            loss or dict(type='hkd_mm.HardLabelLoss')
        )
        self.backbone, self.head = _FusedMap(), _FusedScores()
        self._recorders: list[GuardedRecorders] = []

    def listen(self, networks: list[nn.Module]) -> None:
        """Record the maps and scores of the peers, the labels of the first."""
        for network in networks:
            kinds = dict(
                feature=dict(type='hkd_mm.Feature'),
                logits=dict(type='hkd_mm.Logits'),
            )
            if not self._recorders:
                kinds['labels'] = dict(type='hkd_mm.GTLabels')
            self._recorders.append(GuardedRecorders(kinds, 'peer'))
            self._recorders[-1].initialize(network)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The context that the peers must run in."""
        with ExitStack() as stack:
            for recorders in self._recorders:
                stack.enter_context(recorders)
            yield

    def build(self) -> None:
        """Make the layers for what was recorded."""
        maps, scores = self._records('feature'), self._records('logits')
        check_maps('EmbeddedBranch', *(feature.shape for feature in maps))
        self.backbone.build([feature.size(1) for feature in maps])
        self.head.build(maps[0].size(1), len(scores), scores[0].size(1))
        self.to(maps[0].device)

    def forward(self) -> Tensor:
        """Scores (N, C) of the branch, from what was recorded last."""
        maps, scores = self._records('feature'), self._records('logits')
        self._scores = self.head(self.backbone(maps), scores)
        return self._scores

    def loss(self) -> dict[str, Tensor]:
        """``loss_ce`` of the scores that were made last; a scalar."""
        labels = self._recorders[0].get_recorder('labels').get_record_data()
        scores, self._scores = self._scores, None
        return dict(loss_ce=self.label_loss(preds_S=scores, gt_labels=labels))

    def _records(self, name: str) -> list[Tensor]:
        """One tensor a peer, without its gradient."""
        return [
            recorders.get_recorder(name).get_record_data().detach()
            for recorders in self._recorders
        ]


class _FusedMap(nn.Module):
    """Adaptive fusion: maps of K peers to one, as a backbone returns it."""

    def build(self, channels: list[int]) -> None:
        self.project = nn.ModuleList(
            nn.Conv2d(own, channels[0], kernel_size=1) for own in channels
        )
        self.weigh = nn.Linear(channels[0] * len(channels), len(channels))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor]:
        """K maps (N, C_k, H_k, W_k) to a tuple of one (N, C_1, H_1, W_1)."""
        size = tuple(maps[0].shape[2:])
        joined = [
            project(resize_map(feature, size))
            for project, feature in zip(self.project, maps, strict=True)
        ]
        pooled = torch.cat([feature.mean((2, 3)) for feature in joined], 1)
        shares = self.weigh(pooled).softmax(1)
        stack = torch.stack(joined, 1)  # (N, K, C, H, W)
        return ((stack * shares[:, :, None, None, None]).sum(1),)


class _FusedScores(nn.Module):
    """Gated ensemble of K peers' scores and those of the fused map."""

    def build(self, channels: int, peers: int, classes: int) -> None:
        self.fc = nn.Linear(channels, classes)
        self.weigh = nn.Linear(channels, peers + 1)

    def forward(self, maps: tuple[Tensor], scores: list[Tensor]) -> Tensor:
        """(N, C, H, W) and K times (N, classes) to (N, classes), float32."""
        pooled = maps[-1].mean((2, 3))
        own = self.fc(pooled)
        stack = torch.stack([x.float() for x in (own, *scores)], 1)
        shares = self.weigh(pooled).float().softmax(1)
        return (stack * shares[:, :, None]).sum(1)
