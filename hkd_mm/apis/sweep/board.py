# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How a sweep stands: a live table on a terminal, else lines.

A line for each change of a trial, and every 30 s one on the whole.
"""

import time
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from hkd_mm.progress import EVERY, how_far, left_of_runs

from .report import winner_of
from .tables import brief, figure, listed
from .trial_queue import TrialQueue, params_of

_BEST = 12  # finished trials that a live table has room for


class Board:
    """Shows the trials while they run; a context.

    Args:
        queue: whose trials.
    """

    def __init__(self, queue: TrialQueue) -> None:
        from rich.console import Console

        self.queue, self.sweep = queue, queue.sweep
        self.console = Console()
        self._shown: dict[int, str] = {}
        self._live: Any = None
        self._told = time.monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> 'Board':
        if self.console.is_terminal:
            from rich.live import Live

            self._live = self._stack.enter_context(
                Live(console=self.console, auto_refresh=False)
            )
        self.update(quiet=True)
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def update(self, quiet: bool = False) -> None:
        """Look again.

        Args:
            quiet: print no lines on what was so before.
        """
        trials = self.queue.study.get_trials(deepcopy=False)
        if self._live is not None:
            self._live.update(self.table(trials), refresh=True)
            return
        for trial in trials:
            line = self.line(trial)
            if line and line != self._shown.get(trial.number):
                self._shown[trial.number] = line
                if not quiet:
                    print(line, flush=True)
        if not quiet and time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            print(self.head(trials), flush=True)

    def line(self, trial: Any) -> str:
        """What is new of a trial, in plain words; nothing while it waits."""
        state = trial.state.name
        if state == 'WAITING':
            return ''
        if state == 'RUNNING':
            said = listed(params_of(trial))
        elif state == 'COMPLETE':
            said = f'{self.sweep.metric} {figure(trial.value)} on validation'
        elif state == 'PRUNED':
            said = f'pruned after epoch {trial.last_step}'
        else:
            said = f'failed: {trial.user_attrs.get("reason", "no reason")}'
        return f'trial {trial.number}: {said}'

    def head(self, trials: list) -> str:
        """How many are done, the time left, and the best so far."""
        states = [trial.state.name for trial in trials]
        total = max(self.sweep.trials, len(trials))
        done = sum(trial.state.is_finished() for trial in trials)
        text = how_far(done, total, _seconds_left(trials, total), 'trials')
        for name, word in (
            ('RUNNING', 'running'),
            ('PRUNED', 'pruned'),
            ('FAIL', 'failed'),
        ):
            if name in states:
                text += f', {states.count(name)} {word}'
        best = winner_of(self.sweep, trials)
        if best is not None:
            text += f'; best: {figure(best.value)}, trial {best.number}'
        return text

    def table(self, trials: list) -> Any:
        """Trials under way, then the best ones, as a rich table."""
        from rich.table import Table

        table = Table(title=self.sweep.title, caption=self.head(trials))
        names = list(self.sweep.space)
        for name in ('trial', *(n.rsplit('.', 1)[-1] for n in names)):
            table.add_column(name)
        for name in ('epoch', self.sweep.metric, 'state'):
            table.add_column(name)
        for trial in self.chosen(trials):
            params, step = params_of(trial), trial.last_step
            seen = trial.intermediate_values.get(step)
            value = seen if trial.value is None else trial.value
            table.add_row(
                str(trial.number),
                *(brief(params.get(name, '')) for name in names),
                '' if step is None else str(step),
                figure(value),
                trial.state.name.lower(),
            )
        return table

    def chosen(self, trials: list) -> list:
        """Those that there is room for."""
        sign = -1 if self.sweep.maximised else 1
        running = [t for t in trials if t.state.name == 'RUNNING']
        done = [t for t in trials if t.state.name == 'COMPLETE']
        done.sort(key=lambda t: (sign * t.value, t.number))
        others = [t for t in trials if t.state.name in ('PRUNED', 'FAIL')]
        return [*running, *done, *others][: len(running) + _BEST]


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
