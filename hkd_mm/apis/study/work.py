# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The tools that a study calls for its runs."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

from .. import children
from ..children import Cut, Failed
from ..run.run_files import TESTED
from .folders import CONSOLE, FAILED, is_trained, read_json
from .keys import Keys, code_hash, write_key
from .plan import Run


class Work:
    """Train and test runs, each in a process of its own or side by side.

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
        begun = self._begin(run, folder)
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

    def train_together(self, runs: list[Run]) -> dict[str, str]:
        """Train several in one process, or go on with them.

        Returns:
            Name -> reason, of those that failed.

        Raises:
            Failed: the process failed, and all with it.
            Cut: everything is to end.
        """
        place = runs[0].folder(self.work_dir)
        trainings = {run.name: self._arguments(run, place) for run in runs}
        asked, reasons = place / 'together.json', place / 'reasons.json'
        asked.write_text(
            json.dumps(dict(trainings=trainings, reasons=str(reasons)))
        )
        reasons.unlink(missing_ok=True)
        self._call(place, 'train_together.py', str(asked))
        failed = read_json(reasons)
        for path in (asked, reasons):
            path.unlink()
        return failed

    def _arguments(self, run: Run, place: Path) -> dict:
        """Of :func:`hkd_mm.apis.train.train`; its log points to the place."""
        folder = run.folder(self.work_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILED).unlink(missing_ok=True)
        if folder != place:
            with (folder / CONSOLE).open('a') as log:
                print(
                    f'+ trained with others, see {place / CONSOLE}', file=log
                )
        return dict(
            config=str(run.row.config),
            work_dir=str(folder),
            resume='auto' if self._begin(run, folder) else None,
            cfg_options=self._options(run),
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

    def _begin(self, run: Run, folder: Path) -> bool:
        """Say so and leave the key; whether it was begun before."""
        begun = any(folder.glob('epoch_*.pth'))
        self.say(f'{run.name}: {"resumed" if begun else "started"}')
        if self.keys and not begun:
            key = self.keys.of(run)._replace(code=code_hash())  # as it is now
            write_key(folder, key)
        return begun

    def _options(self, run: Run) -> list[str]:
        return [*run.options(self.work_dir), *self.options]

    def _call(self, folder: Path, tool: str, *words: str) -> None:
        if self._stop.is_set():
            raise Cut
        command = [str(children.TOOLS / tool), *words]
        log = folder / CONSOLE
        children.run_child(command, log, self._stop.is_set, self.threads)
