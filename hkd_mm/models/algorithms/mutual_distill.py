# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Networks that learn from each other, and from a branch between them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product

import torch
from mmengine.model import BaseModel, BaseModule, ModuleDict
from mmrazor.models.algorithms.base import BaseAlgorithm
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from hkd_mm.errors import UserError
from hkd_mm.models.algorithms import wiring
from hkd_mm.models.algorithms.teacher_precision import InputConversion
from hkd_mm.models.connectors.feature_align_connector import check_maps, resize_map
from hkd_mm.models.recorders.guarded_recorders import GuardedRecorders
from hkd_mm.registry import MODELS

_TAKEN = ('architecture', 'branch', 'distill')


class Direction:
    """Who learns from whom; ``build_lazy_parts`` takes it for a distillation."""

    calculate_student_loss = False

    def __init__(self, whole, learner: str, source: str, distiller) -> None:
        self.whole, self.distiller = whole, distiller
        self.name = f'{learner}_from_{source}'
        # what the losses are logged under
        self.role = 'distill' if learner == 'architecture' else learner
        self.train, self.eval = whole.train, whole.eval
        self.forward_both = whole.run_all
        self.student, self.teacher = whole.sources()[learner], whole.sources()[source]

    @property
    def training(self) -> bool:
        return self.whole.training


@MODELS.register_module()
class MutualDistill(wiring.TeacherlessMixin, BaseAlgorithm):
    """Peers trained together in one run, each learning from all others.

    Deep mutual learning (Zhang et al., CVPR 2018, arXiv 1706.00384). The losses of
    ``distiller`` are computed for each ordered pair of networks, the one as the student
    and the other as its teacher, and averaged over those a network learns from: with
    cross-entropy and KL that is the paper's loss for any number of networks. All learn
    at once (the paper updates one after the other); no gradient reaches a peer, so that
    one optimizer does what one a network would do (but for a ``clip_grad``, whose norm
    is that of all together).

    The first peer, ``architecture``, is what is validated, chosen by and
    exported. Losses are logged as ``distill.<part>`` for it and as
    ``<peer>.<part>`` and ``branch.<part>`` for the others.

    Args:
        architecture: the first peer, a classifier config or module.
        peers: name -> classifier config, one or more.
        distiller: an ``mmrazor.ConfigurableDistiller`` config, of any of the
            directions; what it leaves out is filled in.
        branch: config of an :class:`EmbeddedBranch`, from which all learn as well.
        input_size: side of the square training images in pixels, for the dry forward.

    Raises:
        UserError: there is no peer, a peer's name is taken, or a loss would not train.
    """

    family = 'online'  # of methods, for the docs

    def __init__(
        self,
        architecture: dict | BaseModel,
        peers: dict[str, dict],
        distiller: dict,
        branch: dict | None = None,
        input_size: int = 116,
        **kwargs,
    ) -> None:
        if not peers:
            raise UserError(
                'model.peers is empty: hkd_mm.MutualDistill needs one network '
                'more than model.architecture; add a classifier under a name'
            )
        for name in peers:
            if name in _TAKEN or '.' in name or 'loss' in name:
                raise UserError(
                    f'model.peers: a peer cannot be called {name!r}, which the '
                    'log uses otherwise; give it another name'
                )
        super().__init__(architecture=architecture, **kwargs)
        self.peers = ModuleDict({k: MODELS.build(peer) for k, peer in peers.items()})
        self._convert = {
            name: InputConversion(self.data_preprocessor, network.data_preprocessor)
            for name, network in self.peers.items()
        }
        self.branch = MODELS.build(branch) if branch else None
        if self.branch is not None:
            self.branch.listen(list(self.networks().values()))
        self._directions = list(self._make_directions(wiring.fill_wiring(distiller)))
        self.distiller = self._directions[0].distiller
        others = self._directions[1:]
        self.peer_distillers = ModuleDict({one.name: one.distiller for one in others})
        if self.branch is not None:
            images, samples = wiring.blank_batch(self.architecture, input_size)
            before = self.training
            self.eval()
            with torch.no_grad(), self.branch.recording():
                self._run_networks(images, samples)
            self.branch.build()
            self.train(before)
        for direction in self._directions:
            wiring.build_lazy_parts(direction, input_size)

    @property
    def student(self) -> nn.Module:
        """Alias for ``architecture``, as in MMRazor's distillations."""
        return self.architecture

    def networks(self) -> dict[str, nn.Module]:
        """Name -> network, ``architecture`` first."""
        return dict(architecture=self.architecture, **dict(self.peers.items()))

    def sources(self) -> dict[str, nn.Module]:
        """Name -> what can be learned from: the networks and the branch."""
        branch = {} if self.branch is None else dict(branch=self.branch)
        return {**self.networks(), **branch}

    def _make_directions(self, distiller: dict) -> Iterator[Direction]:
        networks, sources = self.networks(), self.sources()
        for learner, source in product(networks, sources):
            if source == learner:
                continue
            built = MODELS.build(distiller)
            if built.deliveries.deliveries:
                raise UserError(
                    'model.distiller.distill_deliveries: there is no telling which '
                    'peer of hkd_mm.MutualDistill delivers; leave them out'
                )
            built.prepare_from_student(networks[learner])
            built.prepare_from_teacher(sources[source])
            wiring.finish_distiller(built, networks[learner], sources[source])
            yield Direction(self, learner, source, built)

    def _run_networks(self, batch_inputs: Tensor, data_samples: list) -> None:
        for name, network in self.networks().items():
            convert = self._convert.get(name)
            images = convert(batch_inputs) if convert else batch_inputs
            network(images, data_samples, mode='tensor')

    def run_all(self, batch_inputs: Tensor, data_samples: list) -> None:
        with ExitStack() as stack:
            for direction in self._directions:
                stack.enter_context(direction.distiller.student_recorders)
                stack.enter_context(direction.distiller.teacher_recorders)
            if self.branch is not None:
                stack.enter_context(self.branch.recording())
            self._run_networks(batch_inputs, data_samples)
            if self.branch is not None:
                self.branch()
        for one in self._directions:  # no gradient reaches who teaches
            for recorder in one.distiller.teacher_recorders.recorders.values():
                buffer = [*recorder._data_buffer]
                recorder._data_buffer = tree_map_only(Tensor, Tensor.detach, buffer)

    def loss(
        self, batch_inputs: Tensor, data_samples: list | None = None
    ) -> dict[str, Tensor]:
        self.run_all(batch_inputs, data_samples)
        sources = len(self._directions) / len(self.networks())
        losses: dict[str, Tensor] = {}
        for one in self._directions:
            for part, value in wiring.loss_parts(one.distiller).items():
                key = f'{one.role}.{part}'
                losses[key] = losses.get(key, 0) + value / sources
        if self.branch is not None:
            for part, value in self.branch.loss().items():
                losses[f'branch.{part}'] = value
        return losses


@MODELS.register_module()
class EmbeddedBranch(BaseModule):
    """Ensemble and adaptive fusion of all peers: one more to learn from.

    After embedded mutual learning (EML, Li et al., Applied Intelligence 53, 2023) as
    described by Zeng et al. (DSP-KD, Bioengineering 11(1), 2024, section 2.2), which
    joins feature maps and class scores; the shapes are ours. Each peer's last map is
    brought to the size and the channels of the first peer's by a 1x1 convolution; their
    sum, weighted image by image, is the fused map. The scores are a weighted sum of the
    peers' and of those that a linear layer makes of the fused map. The branch learns
    from the label alone, and no gradient of it reaches a peer.

    It looks like a classifier (``backbone``, ``head``) to recorders.

    Raises:
        UserError: a peer's last feature is no map.
    """

    def __init__(self, loss: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.label_loss = MODELS.build(loss or dict(type='hkd_mm.HardLabelLoss'))
        self.backbone, self.head = _FusedMap(), _FusedScores()
        self._recorders: list[GuardedRecorders] = []

    def listen(self, networks: list[nn.Module]) -> None:
        """Record the maps and scores of the peers, the labels of the first."""
        for network in networks:
            kinds = dict(
                feature=dict(type='hkd_mm.Feature'), logits=dict(type='hkd_mm.Logits')
            )
            if not self._recorders:
                kinds['labels'] = dict(type='hkd_mm.GTLabels')
            self._recorders.append(GuardedRecorders(kinds, 'peer'))
            self._recorders[-1].initialize(network)

    @contextmanager
    def recording(self) -> Iterator[None]:
        with ExitStack() as stack:
            for recorders in self._recorders:
                stack.enter_context(recorders)
            yield

    def build(self) -> None:
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
        found = (recorders.get_recorder(name) for recorders in self._recorders)
        return [recorder.get_record_data().detach() for recorder in found]


class _FusedMap(nn.Module):
    def build(self, channels: list[int]) -> None:
        self.project = nn.ModuleList(nn.Conv2d(own, channels[0], 1) for own in channels)
        self.weigh = nn.Linear(channels[0] * len(channels), len(channels))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor]:
        """K maps (N, C_k, H_k, W_k) to a tuple of one (N, C_1, H_1, W_1)."""
        size = tuple(maps[0].shape[2:])
        pairs = zip(self.project, maps, strict=True)
        joined = [project(resize_map(feature, size)) for project, feature in pairs]
        pooled = torch.cat([feature.mean((2, 3)) for feature in joined], 1)
        shares = self.weigh(pooled).softmax(1)
        stack = torch.stack(joined, 1)  # (N, K, C, H, W)
        return ((stack * shares[:, :, None, None, None]).sum(1),)


class _FusedScores(nn.Module):
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
