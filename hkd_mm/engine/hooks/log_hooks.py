# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Progress on the screen, late logging of losses, stop of lost runs."""

import atexit
import logging
import math
import sys
from collections import defaultdict
from itertools import chain

import numpy as np
import torch
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import CheckpointHook, Hook, LoggerHook, RuntimeInfoHook
from mmengine.logging import HistoryBuffer
from rich.console import Console
from torch import Tensor

from hkd_mm.engine.run_figures import closing_table
from hkd_mm.errors import UserError
from hkd_mm.io.progress import Progress
from hkd_mm.models.arguments import Arguments, Count
from hkd_mm.registry import HOOKS

_KEPT = 1000  # entries of a history; an epoch is always kept whole


@HOOKS.register_module()
class DeferredLogHook(RuntimeInfoHook):
    """``RuntimeInfoHook`` that reads the losses at log points only.

    mmengine's reads every loss of every iteration (``Tensor.item``), each time waiting
    for the device, and copies the whole history for every entry. Here the scalars reach
    the message hub together: in one transfer when the ``LoggerHook`` prints, at the end
    of an epoch and before validation. In between ``current()`` of a history is that of
    the last log point. A history holds the last 1,000 iterations (or one epoch, if
    longer), not the million of mmengine; ``window_size='global'`` of a log processor
    means these.

    It takes the place of ``default_hooks.runtime_info``.
    """

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self._pending: dict[str, list[Tensor | float]] = defaultdict(list)
        loggers = (hook for hook in runner.hooks if isinstance(hook, LoggerHook))
        self._intervals = [hook.interval for hook in loggers]
        self._kept = max(_KEPT, len(runner.train_dataloader))

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        runner.message_hub.update_info('iter', runner.iter)
        for name, rates in runner.optim_wrapper.get_lr().items():
            self._pending[f'train/{name}'].append(rates[0])

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        for name, value in (outputs or {}).items():
            if isinstance(value, Tensor):
                value = value.detach()
            self._pending[f'train/{name}'].append(value)
        last = self.end_of_epoch(runner.train_dataloader, batch_idx)
        last = last or runner.iter + 1 == runner.max_iters
        if last or any(self.every_n_inner_iters(batch_idx, n) for n in self._intervals):
            self._flush(runner)

    def before_val(self, runner) -> None:
        if getattr(self, '_pending', None):
            self._flush(runner)
        super().before_val(runner)

    def after_train(self, runner) -> None:
        self._flush(runner)
        super().after_train(runner)

    def _flush(self, runner) -> None:
        hub = runner.message_hub
        for key, values in on_host(self._pending).items():
            if key not in hub.log_scalars:
                hub.update_scalar(key, values.pop(0))
            log, counts = hub.log_scalars[key].data
            hub.log_scalars[key] = HistoryBuffer(
                np.append(log, values)[-self._kept :],
                np.append(counts, np.ones_like(values))[-self._kept :],
            )
        for key, history in hub.log_scalars.items():
            if key.startswith('train/'):  # also those of IterTimerHook
                history.max_length = self._kept
        self._pending.clear()


def on_host(pending: dict[str, list]) -> dict[str, list[float]]:
    """All values as numbers; the tensors of a device in one transfer."""
    waiting = defaultdict(list)
    for value in chain.from_iterable(pending.values()):
        if isinstance(value, Tensor):
            waiting[value.device].append(value.reshape(()))
    numbers = {at: iter(torch.stack(x).tolist()) for at, x in waiting.items()}
    return {
        key: [
            float(next(numbers[value.device])) if isinstance(value, Tensor) else value
            for value in values
        ]
        for key, values in pending.items()
    }


@HOOKS.register_module()
class FiniteLossHook(Arguments, Hook):
    """Stop at a loss that is NaN or infinite and name the guilty part.

    Otherwise the run goes on to its last epoch with weights that are NaN.
    The checkpoint of the epoch before is whole and can be resumed from.
    """

    interval: Count = 50  # iterations between looks, each of which waits for the device

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        last = batch_idx + 1 == len(runner.train_dataloader)
        due = last or self.every_n_inner_iters(batch_idx, self.interval)
        found = (outputs or {}).items() if due else ()
        parts = on_host({k: [v.detach()] for k, v in found if isinstance(v, Tensor)})
        broken = [name for name, (value,) in parts.items() if not math.isfinite(value)]
        if broken:
            raise UserError(
                f'{" and ".join(broken)} became nan or infinite in epoch '
                f'{runner.epoch + 1}, iteration {batch_idx + 1}: lower the '
                'learning rate (optim_wrapper.optimizer.lr) or, for '
                'loss_align, beta; --resume goes on from the epoch before'
            )


@HOOKS.register_module()
class ProgressHook(Hook):
    """Step, loss and time left; a line an epoch; a closing table.

    On a terminal a bar, with the lines scrolling above it; in a file or pipe
    a line every 30 s. Rank 0 alone writes. The time left covers validation.
    The table is of what ``RunReportHook`` has collected.
    """

    priority = 'LOWEST'  # what the other hooks found is shown

    def __init__(self) -> None:
        self.stream = sys.stdout
        self._progress: Progress | None = None

    def before_train(self, runner) -> None:
        self._open(runner, 'training', runner.max_iters, 'steps', runner.iter)

    def before_test(self, runner) -> None:
        self._open(runner, 'testing', len(runner.test_dataloader), 'batches', 0)

    def _open(self, runner, what: str, total: int, unit: str, done: int) -> None:
        if not is_main_process():
            return
        self._progress = Progress(what, total, unit, done, self.stream)
        self._progress.__enter__()
        self._streams = []
        if not self._progress.in_place:
            return
        atexit.register(self.close)
        for handler in runner.logger.handlers:  # through the console of the bar
            if (
                isinstance(handler, logging.StreamHandler)
                and getattr(handler.stream, 'isatty', bool)()
            ):
                # rich has put a proxy in place of sys.stdout
                self._streams.append((handler, handler.setStream(sys.stdout)))

    def close(self) -> None:
        """Take the bar away and give the terminal back."""
        if self._progress is None:
            return
        for handler, stream in self._streams:
            if stream is not None:
                handler.setStream(stream)
        self._progress.__exit__(None, None, None)
        self._progress = None
        atexit.unregister(self.close)

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        if self._progress is None or not self._progress.due:
            return
        note = f'epoch {runner.epoch + 1} of {runner.max_epochs}'
        loss = (outputs or {}).get('loss')
        if loss is not None:  # a tensor, on whatever device
            loss = loss.detach() if hasattr(loss, 'detach') else loss
            note += f', loss {float(loss):.4f}'
        self._progress.update(runner.iter + 1, note)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self._progress is not None and self._progress.due:
            self._progress.update(
                runner.iter,
                f'validating epoch {runner.epoch} of {runner.max_epochs}, '
                f'batch {batch_idx + 1} of {len(runner.val_dataloader)}',
            )

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self._progress is not None:
            self._progress.update(batch_idx + 1)

    def after_val_epoch(self, runner, metrics=None) -> None:
        if self._progress is None or not metrics:
            return
        chosen_by, best = _best(runner)
        names = [chosen_by] if chosen_by in metrics else list(metrics)[:3]
        values = [metrics[name] for name in names]
        shown = [f'{v:.4f}' if isinstance(v, float) else f'{v}' for v in values]
        parts = list(map(' '.join, zip(names, shown)))
        if best is not None:
            parts.append(f'best {best:.4f}')
        losses = runner.message_hub.log_scalars.get('train/loss')
        if losses is not None and len(losses.data[0]):
            mean = losses.mean(len(runner.train_dataloader))
            parts.append(f'training loss {mean:.4f}')
        print(
            f'epoch {runner.epoch} of {runner.max_epochs}: ' + ', '.join(parts),
            # on a terminal rich's proxy, which prints above the bar
            file=None if self._progress.in_place else self.stream,
            flush=True,
        )

    @master_only
    def after_run(self, runner) -> None:
        self.close()
        report = runner.message_hub.runtime_info.get('run_report')
        if report is not None:
            console = Console(file=self.stream)
            plain = not console.is_terminal
            console.print(closing_table(report, runner.work_dir, plain))


def _best(runner) -> tuple[str | None, float | None]:
    """Name of the metric that chooses the checkpoint, and its best value."""
    scores = runner.message_hub.runtime_info
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            name = hook.key_indicators[0]
            return name, scores.get('best_score', scores.get(f'best_score_{name}'))
    return None, None
