# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The tools that a study calls for its runs."""

import threading
from collections.abc import Callable
from pathlib import Path

from .. import children
from ..children import Cut, Failed
from ..run.run_files import TESTED
from .folders import CONSOLE, is_trained
from .keys import Keys, code_hash, write_key
from .plan import Run


class Work:
    """Train and test runs, each in a process of its own.

    Args:
        work_dir: of the study.
        options: of the command line, after those of the runs.
        threads: of a process.
        keys: told to each run that is trained; None tells nothing.
        say: takes each line for the reader.
    """

    def __init__(
        self,
        work_dir: Path,
        options: list[str],
        threads: int,
        keys: Keys | None,
        say: Callable[[str], None],
    ) -> None:
        self.work_dir, self.options, self.threads = work_dir, options, threads
        self.keys, self.say = keys, say
        self._stop = threading.Event()

    def stop(self) -> None:
        """Have each process ended, and none begun."""
        self._stop.set()

    def train(self, run: Run) -> None:
        """Train one, or go on with it.

        Raises:
            Failed: its process failed, or left no student.
            Cut: everything is to end.
        """
        folder = run.folder(self.work_dir)
        begun = any(folder.glob('epoch_*.pth'))
        self.say(f'{run.name}: {"resumed" if begun else "started"}')
        if self.keys and not begun:
            key = self.keys.of(run)._replace(code=code_hash())  # as it is now
            write_key(folder, key)
        self._call(
            folder,
            'train.py',
            str(run.row.config),
            *(['--resume'] if begun else []),
            '--work-dir',
            str(folder),
            '--cfg-options',
            *self._options(run),
        )
        if not is_trained(folder):
            raise Failed(
                f'{run.row.config} leaves no metrics.json and student.pth; '
                'its custom_hooks need hkd_mm.RunReportHook'
            )

    def test(self, run: Run) -> None:
        """Test one.

        Raises:
            Failed: its process failed.
            Cut: everything is to end.
        """
        folder = run.folder(self.work_dir)
        self._call(
            folder,
            'test.py',
            str(run.row.config),
            str(folder / 'student.pth'),
            '--work-dir',
            str(folder / 'test'),
            *(w for name in TESTED for w in ('--out', str(folder / name))),
            '--cfg-options',
            *self._options(run),
        )

    def _options(self, run: Run) -> list[str]:
        return [*run.options(self.work_dir), *self.options]

    def _call(self, folder: Path, tool: str, *words: str) -> None:
        if self._stop.is_set():
            raise Cut
        command = [str(children.TOOLS / tool), *words]
        log = folder / CONSOLE
        children.run_child(command, log, self._stop.is_set, self.threads)
