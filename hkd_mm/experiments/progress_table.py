# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The live table of a study or a sweep."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

from hkd_mm.experiments import table_text
from hkd_mm.experiments.run_folders import (
    FAILED,
    EpochRecord,
    RunReport,
    is_done,
    read_if_whole,
)
from hkd_mm.experiments.trial_queue import TrialQueue, params_of
from hkd_mm.io.progress import EVERY, how_far, left_of_runs

if TYPE_CHECKING:  # sweeps go without torch
    from hkd_mm.experiments.study import Run, Study

_BEST = 12  # ended trials that a live table has room for


class ProgressTable:
    """Show how far runs are, as a table on a terminal, else as lines."""

    def __init__(self) -> None:
        self.console = table_text.make_console(soft_wrap=True)
        self._live: Live | None = None

    def table(self) -> Table:
        raise NotImplementedError

    def summary(self) -> str:
        raise NotImplementedError

    def news(self) -> list[str]:
        """Lines on what changed since the last call."""
        return []

    def print(self, line: str) -> None:
        self.console.print(line)

    def __enter__(self) -> ProgressTable:
        self._shown = time.monotonic()
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
            self.update()
        else:
            self.news()
        return self

    def __exit__(self, *_) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self) -> None:
        if self._live is not None:
            self._live.update(self.table(), refresh=True)
            return
        for line in self.news():
            self.print(line)
        if time.monotonic() - self._shown >= EVERY:
            self._shown = time.monotonic()
            self.print(self.summary())


class StudyProgress(ProgressTable):
    """Rows by seeds and folds, read from the folders of the runs."""

    def __init__(
        self, study: Study, work_dir: Path, runs: list[Run], summary: Callable[[], str]
    ) -> None:
        super().__init__()
        self.study, self.work_dir, self.runs = study, work_dir, runs
        self.summary = summary

    def table(self) -> Table:
        by_row: dict[str, list[Run]] = defaultdict(list)
        for run in self.runs:
            by_row[run.row.name].append(run)
        metric = f'{self.study.compared_by} on validation'
        logs = f'logs in {self.runs[0].root(self.work_dir)}/<row>/console.log'
        rows = [
            [runs[0].row.title, *(self._cell(r.folder(self.work_dir)) for r in runs)]
            for runs in by_row.values()
        ]
        columns = ['network', *(run.column for run in max(by_row.values(), key=len))]
        caption = '; '.join([self.summary(), metric, logs])
        return table_text.make_table(self.study.title, columns, rows, caption=caption)

    def _cell(self, folder: Path) -> Text:
        if (folder / FAILED).exists():
            return Text('failed', 'red')
        if is_done(folder):
            report = read_if_whole(RunReport, folder / 'metrics.json') or {}
            value = (report.get('best') or {}).get(self.study.compared_by)
            return Text(table_text.format_figure(value) or 'done', 'green')
        history = read_if_whole(list[EpochRecord], folder / 'history.json')
        if history is None:
            return Text('begun') if folder.exists() else Text('-', 'dim')
        last = max((entry['epoch'] for entry in history), default=0)
        return Text(f'epoch {last}', 'yellow')


class SweepProgress(ProgressTable):
    """The trials of a queue, read from Optuna's storage."""

    def __init__(self, queue: TrialQueue) -> None:
        super().__init__()
        self.queue, self.sweep = queue, queue.sweep
        self._lines: dict[int, str] = {}

    def news(self) -> list[str]:
        before = self._lines
        self._lines = {t.number: self._line(t) for t in self.queue.trials}
        return [x for n, x in self._lines.items() if x and x != before.get(n)]

    def _line(self, trial: Any) -> str:
        match trial.state.name:
            case 'WAITING':
                return ''
            case 'RUNNING':
                text = table_text.format_params(params_of(trial))
            case 'COMPLETE':
                text = f'{self.sweep.metric} {trial.value:.3f} on validation'
            case 'PRUNED':
                text = f'pruned after epoch {trial.last_step}'
            case _:
                reason = trial.user_attrs.get('reason', 'no reason')
                text = f'failed: {reason}'
        return f'trial {trial.number}: {text}'

    def summary(self) -> str:
        trials = self.queue.trials
        states = [trial.state.name for trial in trials]
        total = max(self.sweep.trials, len(trials))
        ended = sum(trial.state.is_finished() for trial in trials)
        text = how_far(ended, total, _seconds_left(trials, total), 'trials')
        for name in ('RUNNING', 'PRUNED', 'FAIL'):
            if name in states:
                word = name.lower() + 'ed' * (name == 'FAIL')
                text += f', {states.count(name)} {word}'
        best = self.queue.best()
        if best is not None:
            text += f'; best: {best.value:.3f}, trial {best.number}'
        return text

    def table(self) -> Table:
        names, rows = list(self.sweep.space), []
        short = [name.rsplit('.', 1)[-1] for name in names]
        columns = ['trial', *short, 'epoch', self.sweep.metric, 'state']
        for trial in self._chosen():
            params, step = params_of(trial), trial.last_step
            value = trial.value
            if value is None:
                value = trial.intermediate_values.get(step)
            settings = [table_text.format_setting(params.get(n, '')) for n in names]
            epoch = '' if step is None else str(step)
            figure, state = table_text.format_figure(value), trial.state.name.lower()
            rows.append([str(trial.number), *settings, epoch, figure, state])
        return table_text.make_table(
            self.sweep.title, columns, rows, len(columns), self.summary()
        )

    def _chosen(self) -> list:
        trials = self.queue.trials
        sign = -1 if self.sweep.maximised else 1
        running = [t for t in trials if t.state.name == 'RUNNING']
        done = [t for t in trials if t.state.name == 'COMPLETE']
        done.sort(key=lambda t: (sign * t.value, t.number))
        others = [t for t in trials if t.state.name in ('PRUNED', 'FAIL')]
        return [*running, *(done + others)[:_BEST]]


def _seconds_left(trials: list, total: int) -> float | None:
    """At the mean of the trials that ran, as many at once as run now."""
    now = datetime.now()  # Optuna notes local times
    running = [t for t in trials if t.state.name == 'RUNNING']
    return left_of_runs(
        [
            t.duration.total_seconds()
            for t in trials
            if t.state.name in ('COMPLETE', 'PRUNED') and t.duration
        ],
        [(now - t.datetime_start).total_seconds() for t in running],
        total - len(running) - sum(t.state.is_finished() for t in trials),
        max(1, len(running)),
    )
