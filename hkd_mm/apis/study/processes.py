# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The runs of a study, each in processes of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ..cli import PARENT
from .folders import FAILED, TESTED, is_done, is_trained, summary
from .keys import Keys, write_key
from .plan import Run

TOOLS = Path(__file__).resolve().parents[3] / 'tools'


class Failed(Exception):
    """A run ended with an error, or one it builds on did."""


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
        self._children: set[subprocess.Popen] = set()

    def run(self) -> dict[str, str]:
        """Do all of it.

        Returns:
            Name -> reason, of the runs that failed.
        """
        pool = ThreadPoolExecutor(self.jobs)
        futures: dict[str, Future] = {}
        rows = {run.row.name: run.row for run in self.runs}
        with _terminated_as_exit():
            try:
                for run in self.runs:
                    before = [
                        futures[run._replace(row=other).name]
                        for other in map(rows.get, run.row.after)
                    ]
                    futures[run.name] = pool.submit(self._one, run, before)
                return {
                    name: str(error)
                    for name, future in futures.items()
                    if (error := _failure(future))
                }
            except BaseException:
                self._end()
                raise
            finally:
                pool.shutdown(cancel_futures=True)

    def _end(self) -> None:
        self._stop.set()
        for child in list(self._children):
            child.terminate()

    def _one(self, run: Run, before: list[Future]) -> None:
        for future in before:
            if _failure(future):
                raise Failed('what it builds on failed')
        folder = run.folder(self.work_dir)
        if is_done(folder):
            self.say(f'{run.name}: was done before')
            return
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILED).unlink(missing_ok=True)
        try:
            if not is_trained(folder):
                self._train(run, folder)
            self._test(run, folder)
        except Failed as error:
            if not self._stop.is_set():
                (folder / FAILED).write_text(
                    json.dumps(dict(reason=str(error)), indent=1) + '\n'
                )
                self.say(f'{run.name}: failed: {error}')
            raise
        self.say(f'{run.name}: {summary(folder, self.metric)}')

    def _train(self, run: Run, folder: Path) -> None:
        begun = any(folder.glob('epoch_*.pth'))
        self.say(f'{run.name}: {"resumed" if begun else "started"}')
        if self.keys and not begun:
            write_key(folder, self.keys.of(run))
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
            '--out',
            *(str(folder / name) for name in TESTED),
        )

    def _call(self, run: Run, folder: Path, tool: str, *words: str) -> None:
        if self._stop.is_set():
            raise Failed('stopped')
        command = [
            sys.executable,
            str(TOOLS / tool),
            *words,
            '--cfg-options',
            *run.options(self.work_dir),
            *self.options,
        ]
        log = folder / 'console.log'
        with log.open('a') as stream:
            print('+', *command, file=stream, flush=True)
            child = subprocess.Popen(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    'OMP_NUM_THREADS': str(self.threads),
                    PARENT: str(os.getpid()),
                },
            )
            self._children.add(child)
            code = child.wait()
            self._children.discard(child)
        if code:
            raise Failed(f'{tool} ended with {code}: {_last_line(log)}')


@contextmanager
def _terminated_as_exit() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, where this thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _failure(future: Future) -> Exception | None:
    """Wait; what went wrong, where that is the run's own affair."""
    try:
        future.result()
    except Failed as error:
        return error
    return None


def _last_line(log: Path) -> str:
    lines = log.read_text(errors='replace').split('\n')
    errors = [line for line in lines if line.startswith('error: ')]
    told = [line for line in lines if line.strip()]
    return f'{(errors or told)[-1].removeprefix("error: ")} ({log})'
