# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a run shows on the screen while it goes, and what it came to."""

import atexit
import logging
import sys
from collections.abc import Sequence

from mmengine.dist import is_main_process, master_only
from mmengine.hooks import CheckpointHook, Hook
from rich.console import Console

from hkd_mm.progress import Progress
from hkd_mm.registry import HOOKS

from ..report.table import closing_table


@HOOKS.register_module()
class ProgressHook(Hook):
    """Step, loss and time left; a line an epoch; a closing table.

    On a terminal a bar, with the lines scrolling above it; in a file or pipe
    a line every 30 s. Rank 0 alone writes. The time left covers validation.
    The table is printed once training has ended, from what ``RunReportHook``
    has collected. The log of MMEngine goes on to the log file as ever.
    """

    priority = 'LOWEST'  # what the other hooks found is shown

    def __init__(self) -> None:
        self.stream = sys.stdout
        self._progress: Progress | None = None

    def before_train(self, runner) -> None:
        """Begin; a resumed run starts where it was."""
        self._open(runner, 'training', runner.max_iters, 'steps', runner.iter)

    def before_test(self, runner) -> None:
        """Begin to count batches."""
        self._open(
            runner, 'testing', len(runner.test_dataloader), 'batches', 0
        )

    def _open(
        self, runner, what: str, total: int, unit: str, done: int
    ) -> None:
        if not is_main_process():
            return
        self._progress = Progress(what, total, unit, done, self.stream)
        self._progress.__enter__()
        self._streams = []
        if self._progress.in_place:
            self._lead_logs(runner)
            atexit.register(self.close)

    def _lead_logs(self, runner) -> None:
        """Let log lines pass through the console that draws the bar."""
        for handler in runner.logger.handlers:
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
        self,
        runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Count a step; read its loss only if it is shown."""
        if self._progress is None or not self._progress.due:
            return
        note = f'epoch {runner.epoch + 1} of {runner.max_epochs}'
        loss = (outputs or {}).get('loss')
        if loss is not None:  # a tensor, on whatever device
            loss = loss.detach() if hasattr(loss, 'detach') else loss
            note += f', loss {float(loss):.4f}'
        self._progress.update(runner.iter + 1, note)

    def after_val_iter(
        self,
        runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Show that a validation is running."""
        if self._progress is not None and self._progress.due:
            self._progress.update(
                runner.iter,
                f'validating epoch {runner.epoch} of {runner.max_epochs}, '
                f'batch {batch_idx + 1} of {len(runner.val_dataloader)}',
            )

    def after_test_iter(
        self,
        runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Count a batch."""
        if self._progress is not None:
            self._progress.update(batch_idx + 1)

    def after_val_epoch(
        self, runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Print what the epoch came to, and the best one so far."""
        if self._progress is None or not metrics:
            return
        chosen_by, best = _best(runner)
        names = [chosen_by] if chosen_by in metrics else list(metrics)[:3]
        parts = [f'{name} {_figure(metrics[name])}' for name in names]
        if best is not None:
            parts.append(f'best {best:.4f}')
        losses = runner.message_hub.log_scalars.get('train/loss')
        if losses is not None and len(losses.data[0]):
            mean = losses.mean(len(runner.train_dataloader))
            parts.append(f'training loss {mean:.4f}')
        print(
            f'epoch {runner.epoch} of {runner.max_epochs}: '
            + ', '.join(parts),
            # on a terminal rich's proxy, which prints above the bar
            file=None if self._progress.in_place else self.stream,
            flush=True,
        )

    @master_only
    def after_run(self, runner) -> None:
        """Take the bar away; print the table of a training."""
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
            return name, scores.get(
                'best_score', scores.get(f'best_score_{name}')
            )
    return None, None


def _figure(value: object) -> str:
    return f'{value:.4f}' if isinstance(value, float) else str(value)
