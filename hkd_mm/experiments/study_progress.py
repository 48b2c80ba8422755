# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The live table of a study."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from hkd_mm.experiments.plan import FAILED, Run, Study, is_done
from hkd_mm.io.progress import EVERY


class ProgressTable:
    """Rows by seeds and folds, read from the folders of the runs.

    Args:
        study: whose.
        work_dir: of the study.
        runs: of the study, row by row.
        console: to print on.

    Attributes:
        how_far: describes how far all of it is.
    """

    how_far: Callable[[], str] = staticmethod(lambda: '')

    def __init__(
        self,
        study: Study,
        work_dir: Path,
        runs: list[Run],
        console: Console,
    ) -> None:
        self.study, self.work_dir, self.runs = study, work_dir, runs
        self.console = console

    def __rich__(self) -> Table:
        table = Table(title=self.study.title)
        table.add_column('network')
        by_row: dict[str, list[Run]] = defaultdict(list)
        for run in self.runs:
            by_row[run.row.name].append(run)
        for run in next(iter(by_row.values())):
            title = run.name.removeprefix(f'{run.row.name} ')
            table.add_column(title, justify='right')
        for runs in by_row.values():
            cells = [self.state(run.folder(self.work_dir)) for run in runs]
            table.add_row(runs[0].row.title, *cells)
        first = self.runs[0].place(self.work_dir)
        parts = [
            self.how_far(),
            f'{self.study.compared_by} on validation',
            f'logs in {first}/<row>/console.log',
        ]
        table.caption = '; '.join(filter(None, parts))
        return table

    def state(self, folder: Path) -> str:
        """What one cell says."""
        metric = self.study.compared_by
        if is_done(folder):
            report = json.loads((folder / 'metrics.json').read_text())
            return f'[green]{report["best"][metric]:.3f}[/green]'
        if (folder / FAILED).exists():
            return '[red]failed[/red]'
        try:
            history = json.loads((folder / 'history.json').read_text())
        except (OSError, ValueError):
            return 'begun' if folder.exists() else '[dim]-[/dim]'
        last = max((entry['epoch'] for entry in history), default=0)
        return f'[yellow]epoch {last}[/yellow]'

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep it on the screen, where there is one."""
        self._told = time.monotonic()
        if not self.console.is_terminal:
            yield
            return
        with Live(
            self, console=self.console, refresh_per_second=0.5, transient=True
        ):
            yield

    def tick(self) -> None:
        """Print a line every 30 s where there is no screen."""
        if self.console.is_terminal or time.monotonic() - self._told < EVERY:
            return
        self._told = time.monotonic()
        self.console.print(self.how_far())
