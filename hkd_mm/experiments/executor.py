# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Run the trainings and tests of a study in child processes."""

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import (
    FIRST_EXCEPTION,
    Future,
    ThreadPoolExecutor,
    wait,
)
from pathlib import Path

from hkd_mm.cli import user_line
from hkd_mm.engine.run_files import TESTED
from hkd_mm.experiments import children
from hkd_mm.experiments.children import LOOK, Cut, Failed, terminated_as_exit
from hkd_mm.experiments.outdated import Keys, code_hash, write_key
from hkd_mm.experiments.plan import (
    CONSOLE,
    FAILED,
    Run,
    is_done,
    is_trained,
    read_json,
    summary,
)
from hkd_mm.io.progress import how_far, left_of_runs


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
        threads = max(1, (os.cpu_count() or 1) // jobs)
        self._work = Work(work_dir, options, threads, keys, say)
        done = [run for run in runs if is_done(run.folder(work_dir))]
        self._ended = {run.name for run in done}
        self._begun: dict[str, float] = {}
        self._took = [60 * self._minutes(run) for run in done]  # seconds

    def _minutes(self, run: Run) -> float:
        report = read_json(run.folder(self.work_dir) / 'metrics.json')
        return report.get('training_minutes', 0.0)

    def how_far(self) -> str:
        """Describe how many runs have ended, and about how long it takes.

        A run counts as long as the mean of those that are done.
        """
        now, begun = time.monotonic(), dict(self._begun)
        ended = len(self._ended)
        left = left_of_runs(
            list(self._took),
            [now - since for since in begun.values()],
            len(self.runs) - ended - len(begun),
            self.jobs,
        )
        return how_far(ended, len(self.runs), left, 'runs')

    def run(self, tick: Callable[[], None] = lambda: None) -> dict[str, str]:
        """Do all of it.

        Args:
            tick: called about once a second.

        Returns:
            Name -> reason, of the runs that failed.
        """
        pool = ThreadPoolExecutor(self.jobs)
        futures: dict[str, Future] = {}
        with terminated_as_exit():
            try:
                for run in self.runs:
                    before = [futures[name] for name in self._builds_on(run)]
                    futures[run.name] = pool.submit(self._one, run, before)
                _wait(set(futures.values()), tick)
                found = {name: f.result() for name, f in futures.items()}
            except BaseException:
                self._work.stop()  # each thread ends its process
                raise
            finally:
                pool.shutdown(cancel_futures=True)
        return {name: reason for name, reason in found.items() if reason}

    def _builds_on(self, run: Run) -> list[str]:
        rows = {other.row.name: other.row for other in self.runs}
        return [run._replace(row=rows[name]).name for name in run.row.after]

    def _one(self, run: Run, before: list[Future]) -> str | None:
        """Do a run after those it builds on; why it failed, if it did."""
        reason = None
        if any(future.result() for future in before):
            reason = 'what it builds on failed'
        elif is_done(run.folder(self.work_dir)):
            self.say(f'{run.name}: was done before')
        else:
            self._begun[run.name] = begun = time.monotonic()
            reason = self._do(run)
            if reason is None:
                self._took.append(time.monotonic() - begun)
            del self._begun[run.name]
        self._ended.add(run.name)
        return reason

    def _do(self, run: Run) -> str | None:
        folder = run.folder(self.work_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILED).unlink(missing_ok=True)
        try:
            if not is_trained(folder):
                self._work.train(run)
            self._work.test(run)
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


def _wait(futures: set[Future], tick: Callable[[], None]) -> None:
    """Wait for all, or for one that raises, and raise that."""
    while futures:
        ended, futures = wait(futures, LOOK, FIRST_EXCEPTION)
        for future in ended:
            future.result()
        tick()
