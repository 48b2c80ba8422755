# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The runs of a study, each in processes of its own."""

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from .. import children
from ..children import Cut, Failed, terminated_as_exit
from ..cli import user_line
from .folders import FAILED, TESTED, is_done, is_trained, summary
from .keys import Keys, code_hash, write_key
from .plan import Run


class Processes:
    """Train and test what is missing, several runs side by side.

    A run that is done is left alone, one that was broken off is resumed; one
    that fails leaves ``failed.json`` in its folder and the others go on.

    Args:
        runs: in an order in which none builds on a later one.
        work_dir: of the study.
        options: of the command line, after those of the runs.
        jobs: runs side by side, each with its share of the cores.
        keys: told to each run that is trained; None tells nothing.
        say: takes each line for the reader.
        metric: said of a run that is done.
    """

    def __init__(
        self,
        runs: list[Run],
        work_dir: Path,
        options: list[str],
        jobs: int,
        keys: Keys | None = None,
        say: Callable[[str], None] = print,
        metric: str = 'balanced_accuracy',
    ) -> None:
        self.runs, self.work_dir, self.metric = runs, work_dir, metric
        self.options, self.jobs, self.say = options, jobs, say
        self.keys = keys
        self.threads = max(1, (os.cpu_count() or 1) // jobs)
        self._stop = threading.Event()

    def run(self) -> dict[str, str]:
        """Do all of it.

        Returns:
            Name -> reason, of the runs that failed.
        """
        pool = ThreadPoolExecutor(self.jobs)
        futures: dict[str, Future] = {}
        rows = {run.row.name: run.row for run in self.runs}
        with terminated_as_exit():
            try:
                for run in self.runs:
                    before = [
                        futures[run._replace(row=other).name]
                        for other in map(rows.get, run.row.after)
                    ]
                    futures[run.name] = pool.submit(self._one, run, before)
                found = {name: f.result() for name, f in futures.items()}
            except BaseException:
                self._stop.set()  # each thread ends its process
                raise
            finally:
                pool.shutdown(cancel_futures=True)
        return {name: reason for name, reason in found.items() if reason}

    def _one(self, run: Run, before: list[Future]) -> str | None:
        """Do one run; why it failed, if it did."""
        if any(future.result() for future in before):
            return 'what it builds on failed'
        folder = run.folder(self.work_dir)
        if is_done(folder):
            self.say(f'{run.name}: was done before')
            return None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILED).unlink(missing_ok=True)
        try:
            if not is_trained(folder):
                self._train(run, folder)
            self._test(run, folder)
            told = summary(folder, self.metric)
        except Cut:
            return 'it was ended with the study'
        except Exception as error:  # of this run: the others go on
            reason = user_line(error) or f'{type(error).__name__}: {error}'
            note = json.dumps(dict(reason=reason), indent=1) + '\n'
            (folder / FAILED).write_text(note)
            self.say(f'{run.name}: failed: {reason}')
            return reason
        self.say(f'{run.name}: {told}')
        return None

    def _train(self, run: Run, folder: Path) -> None:
        begun = any(folder.glob('epoch_*.pth'))
        self.say(f'{run.name}: {"resumed" if begun else "started"}')
        if self.keys and not begun:
            key = self.keys.of(run)._replace(code=code_hash())  # as it is now
            write_key(folder, key)
        self._call(
            run,
            folder,
            'train.py',
            str(run.row.config),
            *(['--resume'] if begun else []),
            '--work-dir',
            str(folder),
        )
        if not is_trained(folder):
            raise Failed(
                f'{run.row.config} leaves no metrics.json and student.pth; '
                'its custom_hooks need hkd_mm.RunReportHook'
            )

    def _test(self, run: Run, folder: Path) -> None:
        self._call(
            run,
            folder,
            'test.py',
            str(run.row.config),
            str(folder / 'student.pth'),
            '--work-dir',
            str(folder / 'test'),
            *(w for name in TESTED for w in ('--out', str(folder / name))),
        )

    def _call(self, run: Run, folder: Path, tool: str, *words: str) -> None:
        if self._stop.is_set():
            raise Cut
        command = [
            str(children.TOOLS / tool),
            *words,
            '--cfg-options',
            *run.options(self.work_dir),
            *self.options,
        ]
        log = folder / 'console.log'
        children.run_child(command, log, self._stop.is_set, self.threads)
