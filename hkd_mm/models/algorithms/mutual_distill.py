# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Nets that learn from each other while they are trained."""

from collections.abc import Iterator
from contextlib import ExitStack

import torch
from mmengine.model import BaseModel, ModuleDict
from mmrazor.models.algorithms.base import BaseAlgorithm
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.registry import MODELS

from ..recorders.guarded_recorders import guard_records
from .blank_batch import blank_batch
from .default_wiring import complete
from .input_statistics import InputConversion
from .peer_direction import Direction, check_peers
from .student_side import name_preprocessor
from .wiring import build_lazy_parts, check_losses, drop_unused_inputs


@MODELS.register_module()
class MutualDistill(BaseAlgorithm):
    """Peers trained together in one run, each learning from all others.

    Deep mutual learning (Zhang et al., CVPR 2018, arXiv 1706.00384). The
    losses of ``distiller`` are computed for each ordered pair of nets, with
    the one as the student and what the other says as the teacher's, and
    averaged over those a net learns from: with cross-entropy and KL that is
    the paper's loss for two nets as well as for a larger cohort. All nets run
    first, then all learn at once (the paper updates one after the other);
    what a net is taught is detached, so that no gradient reaches a peer, and
    one optimizer of all parameters does what one a net would do (but for a
    ``clip_grad``, whose norm is that of all together).

    With a ``branch`` the peers also learn from what they know together, which
    is embedded mutual learning (:class:`EmbeddedBranch`).

    The first peer, ``architecture``, is what is validated, chosen by and
    exported. Losses are logged as ``distill.<part>`` for it and as
    ``<peer>.<part>`` and ``branch.<part>`` for the others.

    Args:
        architecture: the first peer, a classifier config or module.
        peers: name -> classifier config, one or more.
        distiller: an ``mmrazor.ConfigurableDistiller`` config, of any of the
            directions; what it leaves out is filled in.
        branch: config of an :class:`EmbeddedBranch`; None for none.
        input_size: side of the square training images in pixels, for the dry
            forward.
        teacher: None; here so that a config can take out an inherited one.
        teacher_ckpt: None, as ``teacher``.
        kwargs: passed on to MMRazor's ``BaseAlgorithm``.

    Raises:
        UserError: a teacher is given, there is no peer, a peer's name is
            taken, or a loss would not train.
    """

    family = 'online'  # of methods, for the docs

    def __init__(
        self,
        architecture: dict | BaseModel,
        peers: dict[str, dict],
        distiller: dict,
        branch: dict | None = None,
        input_size: int = 116,
        teacher: None = None,
        teacher_ckpt: None = None,
        teacher_cache: None = None,
        **kwargs,
    ) -> None:
        check_peers(
            peers,
            dict(
                teacher=teacher,
                teacher_ckpt=teacher_ckpt,
                teacher_cache=teacher_cache,
            ),
        )
        name_preprocessor(kwargs)
        super().__init__(architecture=architecture, **kwargs)
        self.peers = ModuleDict(
            {name: MODELS.build(net) for name, net in peers.items()}
        )
        self._convert = {
            name: InputConversion(
                self.data_preprocessor, net.data_preprocessor
            )
            for name, net in self.peers.items()
        }
        self.branch = MODELS.build(branch) if branch else None
        if self.branch is not None:
            self.branch.listen(list(self.nets().values()))
        self._directions = list(self._make_directions(complete(distiller)))
        self.distiller = self._directions[0].distiller
        self.peer_distillers = ModuleDict(
            {one.name: one.distiller for one in self._directions[1:]}
        )
        if self.branch is not None:
            self._build_branch(input_size)
        for direction in self._directions:
            build_lazy_parts(direction, input_size)

    @property
    def student(self) -> nn.Module:
        """Alias for ``architecture``, as in MMRazor's distillations."""
        return self.architecture

    def nets(self) -> dict[str, nn.Module]:
        """Name -> net, ``architecture`` first."""
        return dict(architecture=self.architecture, **dict(self.peers.items()))

    def _make_directions(self, distiller: dict) -> Iterator[Direction]:
        nets = self.nets()
        sources = dict(nets)
        if self.branch is not None:
            sources['branch'] = self.branch
        for learner in nets:
            for source in sources:
                if source == learner:
                    continue
                built = MODELS.build(distiller)
                if built.deliveries.deliveries:
                    raise UserError(
                        'model.distiller.distill_deliveries: there is no '
                        'telling which peer of hkd_mm.MutualDistill delivers; '
                        'leave them out'
                    )
                check_losses(built)
                drop_unused_inputs(built)
                built.prepare_from_student(nets[learner])
                built.prepare_from_teacher(sources[source])
                guard_records(built, nets[learner], sources[source])
                yield Direction(self, learner, source, built)

    def _build_branch(self, input_size: int) -> None:
        """Let the branch see what the peers deliver, once."""
        images, samples = blank_batch(self.architecture, input_size)
        before = self.training
        self.eval()
        with torch.no_grad(), self.branch.recording():
            self._run_nets(images, samples)
        self.branch.build()
        self.train(before)

    def _run_nets(self, batch_inputs: Tensor, data_samples: list) -> None:
        for name, net in self.nets().items():
            convert = self._convert.get(name)
            images = convert(batch_inputs) if convert else batch_inputs
            net(images, data_samples, mode='tensor')

    def run_all(self, batch_inputs: Tensor, data_samples: list) -> None:
        """Run all nets, then the branch, under the recorders.

        Args:
            batch_inputs: images (N, 3, H, W), normalised for the first peer.
            data_samples: N data samples with ``gt_label``.
        """
        with ExitStack() as stack:
            for direction in self._directions:
                stack.enter_context(direction.distiller.student_recorders)
                stack.enter_context(direction.distiller.teacher_recorders)
            if self.branch is not None:
                stack.enter_context(self.branch.recording())
            self._run_nets(batch_inputs, data_samples)
            if self.branch is not None:
                self.branch()
        for direction in self._directions:
            direction.detach_source()

    def loss(
        self, batch_inputs: Tensor, data_samples: list | None = None
    ) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            batch_inputs: images (N, 3, H, W), normalised for the first peer.
            data_samples: N data samples with ``gt_label``.

        Returns:
            Name -> scalar, see the class.
        """
        self.run_all(batch_inputs, data_samples)
        sources = len(self._directions) / len(self.nets())
        losses: dict[str, Tensor] = {}
        for one in self._directions:
            for part, value in one.losses().items():
                key = f'{one.role}.{part}'
                losses[key] = losses.get(key, 0) + value / sources
        if self.branch is not None:
            for part, value in self.branch.loss().items():
                losses[f'branch.{part}'] = value
        return losses
