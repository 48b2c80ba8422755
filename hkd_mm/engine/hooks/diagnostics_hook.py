# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What each part of the loss pulls, and how far student and teacher agree."""

import torch
import torch._functorch.config
from mmengine.hooks import Hook
from torch import Tensor, nn

from hkd_mm.registry import HOOKS
from hkd_mm.structures.predicted import predicted

from ..report.summary import bare_model


@HOOKS.register_module()
class DistillDiagnosticsHook(Hook):
    """Log gradient norms of the loss parts and the agreement of the nets.

    ``gradient.<part>`` is the Euclidean norm of that part's gradient over
    all trained parameters of the student: parts that differ by orders of
    magnitude say that a weight is wrong. ``agreement`` is the share of the
    batch, in [0, 1], where student and teacher name the same class. Both go
    into the log with the losses. Nothing of the training changes; a logged
    iteration costs one backward pass a part more.

    Args:
        interval: iterations of an epoch from one look to the next; best that
            of the ``LoggerHook``. Shorter epochs are looked at in their last.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._on = False

    def before_train(self, runner) -> None:
        """Look at the losses where they are added up."""
        model = bare_model(runner.model)
        if not hasattr(model, 'distiller'):
            runner.logger.warning(
                'DistillDiagnosticsHook: nothing is distilled here, so there '
                'is nothing to look at'
            )
            return
        # of torch.compile: a graph may now be walked several times
        torch._functorch.config.donated_buffer = False
        added_up = model.parse_losses

        def looked_at(losses: dict) -> tuple[Tensor, dict]:
            total, log = added_up(losses)
            if self._on:
                log = {**log, **gradient_norms(model, losses)}
                log |= agreement(model.distiller)
            return total, log

        model.parse_losses = looked_at

    def before_train_iter(
        self, runner, batch_idx: int, data_batch=None
    ) -> None:
        """Say whether this is an iteration to look at."""
        loader = runner.train_dataloader
        short = len(loader) < self.interval
        self._on = self.every_n_inner_iters(batch_idx, self.interval) or (
            short and self.end_of_epoch(loader, batch_idx)
        )

    def after_train(self, runner) -> None:
        """Take the look out again."""
        vars(bare_model(runner.model)).pop('parse_losses', None)


def gradient_norms(
    model: nn.Module, losses: dict[str, Tensor]
) -> dict[str, Tensor]:
    """``gradient.<part>`` -> float32 scalar, on the losses' device."""
    parameters = [p for p in model.student.parameters() if p.requires_grad]
    found = {}
    for name, value in losses.items():
        if 'loss' not in name or not value.requires_grad:
            continue
        gradients = [
            gradient
            for gradient in torch.autograd.grad(
                value.mean(), parameters, retain_graph=True, allow_unused=True
            )
            if gradient is not None
        ]
        part = name.removeprefix('distill.').removesuffix('.loss')
        found[f'gradient.{part.replace("loss_", "")}'] = (
            torch.stack(torch._foreach_norm(gradients)).norm().float()
            if gradients
            else value.new_zeros(())
        )
    return found


def agreement(distiller) -> dict[str, Tensor]:
    """``agreement`` -> share in [0, 1]; nothing if no scores are recorded.

    Of images, or of pixels, which there are of a class from probability 0.5
    on, whatever ``mask_threshold`` is.
    """
    from hkd_mm.models.recorders.network_recorders import LogitsRecorder

    sides = []
    for recorders in (
        distiller.student_recorders,
        distiller.teacher_recorders,
    ):
        scores = [
            recorder.data_buffer[0]
            for recorder in recorders.recorders.values()
            if isinstance(recorder, LogitsRecorder)
        ]
        if not scores:
            return {}
        sides.append(predicted(scores[0].detach()))
    return dict(agreement=(sides[0] == sides[1]).float().mean())
