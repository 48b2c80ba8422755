# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The live table of a study: where every run stands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .folders import FAILED, is_done
from .plan import Run, Study, seed_folder


class Board:
    """Rows by seeds, read from the folders of the runs.

    Args:
        study: whose.
        work_dir: of the study.
        seeds: its columns.
        console: to print on.
    """

    def __init__(
        self, study: Study, work_dir: Path, seeds: range, console: Console
    ) -> None:
        self.study, self.work_dir, self.seeds = study, work_dir, seeds
        self.console = console

    def __rich__(self) -> Table:
        table = Table(title=self.study.title)
        table.add_column('network')
        for seed in self.seeds:
            table.add_column(f'seed {seed}', justify='right')
        for row in self.study.rows:
            table.add_row(
                row.title,
                *(
                    self.state(Run(row, seed).folder(self.work_dir))
                    for seed in self.seeds
                ),
            )
        table.caption = (
            f'{self.study.compared_by} on validation; logs in '
            f'{seed_folder(self.work_dir, self.seeds[0])}/<row>/console.log'
        )
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
        if not self.console.is_terminal:
            yield
            return
        with Live(
            self, console=self.console, refresh_per_second=0.5, transient=True
        ):
            yield
