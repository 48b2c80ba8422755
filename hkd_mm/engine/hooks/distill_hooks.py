# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hooks on the losses of a distillation: schedules, diagnostics, warnings."""

import copy
import inspect
import math
from collections.abc import Iterator
from statistics import median
from typing import Literal, get_type_hints

import torch
import torch._functorch.config
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from torch import Tensor, nn

from hkd_mm.engine.run_summary import bare_model
from hkd_mm.errors import UserError
from hkd_mm.metric_names import MAIN
from hkd_mm.models.algorithms.wiring import part_name
from hkd_mm.models.arguments import Arguments, Count, Number, Whole
from hkd_mm.models.recorders.network_recorders import LogitsRecorder
from hkd_mm.registry import HOOKS
from hkd_mm.structures.packed_samples import predicted

_SHARES = dict(
    constant=lambda share: 0.0,
    linear=lambda share: share,
    cosine=lambda share: (1 - math.cos(math.pi * share)) / 2,
)


@HOOKS.register_module()
class LossScheduleHook(Arguments, Hook):
    """Move a number of one loss from ``start`` to ``end`` over the epochs.

    It is ``start`` until epoch ``begin``, ``end`` from epoch ``until`` on,
    and in between on a straight line, on half a cosine, or still ``start``
    (``constant``). A distillation that stops after 60 epochs::

        dict(type='hkd_mm.LossScheduleHook', loss='loss_kd',
             kind='constant', until=60, end=0.0)

    and DKD's warm-up over 20 of the 240 epochs of its authors, 8 of 100::

        dict(type='hkd_mm.LossScheduleHook', loss='loss_dkd',
             kind='linear', start=0.0, until=20, of=240)
    """

    priority = 'HIGH'

    loss: str  # its name in ``model.distiller.distill_losses``
    until: Count  # first epoch, counted from 0, that has ``end``
    kind: Literal['constant', 'linear', 'cosine'] = 'linear'
    start: Number | None = None  # None for that of the config, as ``end``
    end: Number | None = None
    begin: Whole = 0  # the last epoch that still has ``start``
    word: str = 'loss_weight'  # which of its numbers, such as ``tau`` or ``alpha``
    # epochs of the schedule that ``begin`` and ``until`` belong to: they keep their
    # share of the run's. None leaves them as they are
    of: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        before = f'before until={self.until}'
        self.require(self.begin < self.until, 'begin', self.begin, before)
        given = self.start is not None or self.end is not None
        self.require(given, 'end', self.end, 'a number, or start')

    def before_train(self, runner) -> None:
        if self.of is not None:
            share, self.of = runner.max_epochs / self.of, None
            self.until = round(self.until * share)
            self.begin = min(round(self.begin * share), max(self.until - 1, 0))
        self._modules = self._find(runner)
        own = getattr(self._modules[0], self.word)
        self._from = own if self.start is None else self.start
        self._to = own if self.end is None else self.end

    def before_train_epoch(self, runner) -> None:
        for module in self._modules:
            setattr(module, self.word, self.value(runner.epoch))

    def after_train(self, runner) -> None:
        # what the last epoch had stays: it is what a checkpoint came from
        runner.logger.info(
            f'{self.loss}.{self.word} ended at {getattr(self._modules[0], self.word):g}'
        )

    def value(self, epoch: int) -> float:
        """The number in an epoch, counted from 0."""
        if epoch >= self.until:
            return self._to
        share = max(0, epoch - self.begin) / (self.until - self.begin)
        return self._from + _SHARES[self.kind](share) * (self._to - self._from)

    def _find(self, runner) -> list:
        """The loss, and the same of every other network that is taught."""
        model = bare_model(runner.model)
        distiller = getattr(model, 'distiller', None)
        losses = getattr(distiller, 'distill_losses', {})
        if self.loss not in losses:
            raise UserError(
                f'LossScheduleHook: no loss is called {self.loss!r}; '
                f'known: {", ".join(losses) or "none, nothing is distilled"}'
            )
        found = losses[self.loss]
        check_number(self.loss, found, self.word)
        for value in (self.start, self.end):
            if value is not None:
                check_value(self.loss, found, self.word, value)
        others = getattr(model, 'peer_distillers', {}).values()
        return [found, *(d.distill_losses[self.loss] for d in others)]


def check_number(name: str, loss: nn.Module, word: str) -> None:
    """Refuse what is no number of a loss, or read when it is built only."""
    own = getattr(loss, word, None)
    made = inspect.signature(type(loss).__init__).parameters
    if (
        not isinstance(own, (int, float))
        or isinstance(own, bool)
        or word not in made
        or get_type_hints(type(loss).__init__).get(word) is int
        or word in getattr(loss, 'fixed', ())
    ):
        raise UserError(
            f'LossScheduleHook: {word!r} is no number of {name} that can '
            'change while it trains'
        )


def check_value(name: str, loss: nn.Module, word: str, value: float) -> None:
    """Refuse a value that the loss would not take, or not be ready for.

    It would ask for what is not recorded, or, with several processes, for less.
    """
    if hasattr(loss, 'require'):  # it checks its own arguments
        type(loss)(**{word: value})
    then = copy.copy(loss)
    setattr(then, word, value)
    now, later = (set(getattr(one, 'unused_inputs', ())) for one in (loss, then))
    where = f'LossScheduleHook: {name}.{word}={value:g}'
    if now - later:
        raise UserError(
            f'{where} needs {", ".join(sorted(now - later))}, which is not '
            f'recorded with {word}={getattr(loss, word):g}; write another '
            'value into the loss and this one into start or end'
        )
    if later - now and get_world_size() > 1:
        raise UserError(
            f'{where} leaves weights without a gradient, which several '
            'processes refuse; take a small number such as 1e-6'
        )


_WEAK, _STRONG = 0.01, 10  # times the cross-entropy's gradient


@HOOKS.register_module()
class DistillDiagnosticsHook(Arguments, Hook):
    """Log gradient norms of the loss parts and the agreement of the networks.

    ``gradient.<part>`` is the Euclidean norm of that part's gradient over
    all trained parameters of the student: parts that differ by orders of
    magnitude say that a weight is wrong. ``agreement`` is the share of the
    batch, in [0, 1], where student and teacher name the same class. A logged
    iteration costs one backward pass a part more. After the first epoch a warning
    names parts below 0.01 or above 10 times the cross-entropy's gradient.
    """

    # iterations of an epoch from one look to the next; best that of the
    # ``LoggerHook``. Shorter epochs are looked at in their last
    interval: Count = 50
    _on = False

    def before_train(self, runner) -> None:
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
        self._forces: dict[str, list[float]] = {}  # of the first epoch

        def looked_at(losses: dict) -> tuple[Tensor, dict]:
            total, log = added_up(losses)
            if self._on:
                norms = gradient_norms(model, losses)
                log = {**log, **norms, **agreement(model.distiller)}
                if runner.epoch == 0 and norms.get('gradient.ce', 0) > 0:
                    for name, norm in norms.items():
                        force = float(norm / norms['gradient.ce'])
                        self._forces.setdefault(name, []).append(force)
            return total, log

        model.parse_losses = looked_at

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        loader = runner.train_dataloader
        short = len(loader) < self.interval
        self._on = self.every_n_inner_iters(batch_idx, self.interval) or (
            short and self.end_of_epoch(loader, batch_idx)
        )

    def after_train_epoch(self, runner) -> None:
        if runner.epoch > 0 or not hasattr(self, '_forces'):
            return
        for name, forces in self._forces.items():
            force = median(forces)
            if 0 < force < _WEAK or force > _STRONG:  # at 0 it may be scheduled
                part = name.removeprefix('gradient.')
                runner.logger.warning(
                    f'the gradient of {part} is {force:.2g} times that of the '
                    f'cross-entropy, so {part if force > 1 else "ce"} alone trains '
                    f'the student; change its weight, or set loss_balance=True'
                )

    def after_train(self, runner) -> None:
        vars(bare_model(runner.model)).pop('parse_losses', None)


def gradient_norms(model: nn.Module, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """``gradient.<part>`` -> float32 scalar, on the losses' device."""
    parameters = [p for p in model.student.parameters() if p.requires_grad]
    found = {}
    for name, value in losses.items():
        if 'loss' not in name or not value.requires_grad:
            continue
        gradients = torch.autograd.grad(
            value.mean(), parameters, retain_graph=True, materialize_grads=True
        )
        norms = torch._foreach_norm(gradients)
        found[f'gradient.{part_name(name)}'] = torch.stack(norms).norm().float()
    return found


def agreement(distiller) -> dict[str, Tensor]:
    """``agreement`` -> share in [0, 1]; nothing if no scores are recorded.

    Of images, or of pixels, which there are of a class from probability 0.5
    on, whatever ``mask_threshold`` is.
    """
    sides = []
    for recorders in (distiller.student_recorders, distiller.teacher_recorders):
        scores = [
            recorder.data_buffer[0]
            for recorder in recorders.recorders.values()
            if isinstance(recorder, LogitsRecorder)
        ]
        if not scores:
            return {}
        sides.append(predicted(scores[0].detach()))
    return dict(agreement=(sides[0] == sides[1]).float().mean())


# Parameters of the teacher for one of the student. The paper's widest pair
# that works is about 100; Mirzadeh et al. (arXiv 1902.03393) show the gap.
_GAP = 200
_LEAD = 0.05  # of the main metric; the teacher's comes from few images


@HOOKS.register_module()
class GuardRailsHook(Hook):
    """Warn of settings and of a teacher that will not help, with the figure.

    - a teacher more than 200 times the size of the student,
    - a temperature or a weight far from what is usual for its loss
      (``recommended_range`` of the loss),
    - a student that has become better than its teacher,
    - losses none of which trains the student's last layer.

    Too small a batch and too few classes are said by the losses themselves, a teacher
    at chance by :class:`TeacherCheckHook`, a teacher of another split before training.
    """

    def before_train(self, runner) -> None:
        model = bare_model(runner.model)
        self._teacher_reported = not hasattr(model, 'teacher')
        if not hasattr(model, 'distiller'):
            return
        for line in _settings(model):
            runner.logger.warning(line)

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        checked = runner.message_hub.runtime_info.get('teacher_check')
        if checked is None or self._teacher_reported:
            return
        for name in MAIN.values():
            mine, teachers = (metrics or {}).get(name), checked.get(name)
            if None not in (mine, teachers) and mine > teachers + _LEAD:
                self._teacher_reported = True
                runner.logger.warning(
                    f'the student ({name.replace("_", " ")} {mine:.3f} on validation) '
                    f'has passed its teacher ({teachers:.3f} on {checked["images"]} '
                    'images): soft targets may hold it back from here; train the '
                    'teacher longer, or give the label more weight'
                )


def _settings(model) -> Iterator[str]:
    sizes = [
        sum(parameter.numel() for parameter in network.parameters())
        for network in (getattr(model, 'teacher', None), model.student)
        if network is not None
    ]
    if len(sizes) == 2 and sizes[0] > _GAP * sizes[1]:
        yield (
            f'the teacher has {sizes[0] / sizes[1]:.0f} times the parameters of the '
            f'student ({sizes[0] / 1e6:.2f} M and {sizes[1] / 1e6:.2f} M): beyond '
            f'{_GAP} a smaller teacher often teaches better (capacity gap)'
        )
    recorders = model.distiller.student_recorders.recorders.values()
    losses = model.distiller.distill_losses
    scored = any(isinstance(one, LogitsRecorder) for one in recorders) or any(
        getattr(loss, 'trains_last_layer', False) for loss in losses.values()
    )
    own = getattr(model, 'calculate_student_loss', False)
    if not (scored or own or hasattr(model.student, 'reuse_last_layer')):
        yield (
            "no loss reads the student's class scores, so its last layer stays as it "
            'was drawn and validation says nothing: train with --no-validate, which '
            'keeps the last epoch, and fine-tune with labels'
        )
    for name, loss in losses.items():
        ranges = getattr(loss, 'recommended_range', {})
        for word, (low, high) in ranges.items():
            value = getattr(loss, word, None)
            if isinstance(value, (int, float)) and not low <= value <= high:
                yield (
                    f'distill_losses.{name}.{word}={value:g} lies far from '
                    f'what is usual ({low:g} to {high:g})'
                )
