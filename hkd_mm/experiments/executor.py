# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Train and test the runs of a study in child processes."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from hkd_mm.cli import user_line
from hkd_mm.experiments import child_processes, run_folders
from hkd_mm.experiments.outdated import StudyFingerprints, code_hash, write_fingerprint
from hkd_mm.experiments.study import Run
from hkd_mm.io.progress import how_far, left_of_runs


class RunExecutor:
    """Train and test what is missing, ``jobs`` runs side by side that share the cores.

    A run that is done is left alone, one that was broken off is resumed; one that fails
    leaves ``failed.json`` in its folder and the others go on. No run builds on a later
    one.
    """

    def __init__(
        self,
        runs: list[Run],
        work_dir: Path,
        options: list[str],
        jobs: int,
        fingerprints: StudyFingerprints | None = None,
        log: Callable[[str], None] = print,
        metric: str = 'balanced_accuracy',
    ) -> None:
        self.runs, self.work_dir, self.metric = runs, work_dir, metric
        self.options, self.jobs, self.log = options, jobs, log
        self.fingerprints = fingerprints
        self._threads = max(1, (os.cpu_count() or 1) // jobs)
        self._stop = threading.Event()
        done = [run for run in runs if run_folders.is_done(run.folder(work_dir))]
        self._ended = {run.name for run in done}
        self._started: dict[str, float] = {}
        self._seconds = [
            60 * run_folders.read_report(path / 'metrics.json')['training_minutes']
            for path in (run.folder(work_dir) for run in done)
        ]

    def how_far(self) -> str:
        """Describe how many runs have ended, and about how long it takes."""
        now, started = time.monotonic(), dict(self._started)
        ended = len(self._ended)
        left = left_of_runs(
            list(self._seconds),
            [now - since for since in started.values()],
            len(self.runs) - ended - len(started),
            self.jobs,
        )
        return how_far(ended, len(self.runs), left, 'runs')

    def run(self, tick: Callable[[], None] = lambda: None) -> dict[str, str]:
        """Do it with a ``tick`` a second; name -> reason of the runs that failed."""
        pool = ThreadPoolExecutor(self.jobs)
        futures: dict[str, Future] = {}
        rows = [run.row for run in self.runs]
        with child_processes.terminated_as_exit():
            try:
                for run in self.runs:
                    before = [futures[other.name] for other in run.built_on(rows)]
                    futures[run.name] = pool.submit(self._run, run, before)
                waiting = set(futures.values())
                while waiting:
                    ended, waiting = wait(
                        waiting, child_processes.LOOK, FIRST_EXCEPTION
                    )
                    for future in ended:  # one that raises ends all
                        future.result()
                    tick()
                found = {name: f.result() for name, f in futures.items()}
            except BaseException:
                self._stop.set()  # each thread ends its process
                raise
            finally:
                pool.shutdown(cancel_futures=True)
        return {name: reason for name, reason in found.items() if reason}

    def _run(self, run: Run, before: list[Future]) -> str | None:
        reason = None
        if any(future.result() for future in before):
            reason = 'what it builds on failed'
        elif run_folders.is_done(run.folder(self.work_dir)):
            self.log(f'{run.name}: was done before')
        else:
            self._started[run.name] = started = time.monotonic()
            reason = self._attempt(run)
            if reason is None:
                self._seconds.append(time.monotonic() - started)
            del self._started[run.name]
        self._ended.add(run.name)
        return reason

    def _attempt(self, run: Run) -> str | None:
        folder = run.folder(self.work_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / run_folders.FAILED).unlink(missing_ok=True)
        try:
            if not run_folders.is_trained(folder):
                self._train(run, folder)
            self._call(child_processes.test, run, folder)
            report = run_folders.read_report(folder / 'metrics.json')
            value = run_folders.figure(report.get('best') or {}, self.metric)
            if value != value:
                raise child_processes.Failed(f'its validation has no {self.metric}')
        except child_processes.ChildStopped:
            return 'it was ended with the study'
        except Exception as error:  # of this run: the others go on
            reason = user_line(error) or f'{type(error).__name__}: {error}'
            run_folders.write_json(folder / run_folders.FAILED, dict(reason=reason))
            self.log(f'{run.name}: failed: {reason}')
            return reason
        self.log(
            f'{run.name}: done, {report["training_minutes"]:.1f} min, '
            f'{self.metric} on validation {value:.3f}'
        )
        return None

    def _train(self, run: Run, folder: Path) -> None:
        resumed = run_folders.is_resumable(folder)
        self.log(f'{run.name}: {"resumed" if resumed else "started"}')
        if self.fingerprints and not resumed:
            now = self.fingerprints.of(run)._replace(code=code_hash())
            write_fingerprint(folder, now)
        self._call(child_processes.train, run, folder)
        if not run_folders.is_trained(folder):
            raise child_processes.Failed(
                f'{run.row.config} leaves no metrics.json and student.pth; '
                'its custom_hooks need hkd_mm.RunReportHook'
            )

    def _call(self, tool: Callable, run: Run, folder: Path) -> None:
        if self._stop.is_set():
            raise child_processes.ChildStopped
        tool(
            run.row.config,
            folder,
            [*run.options(self.work_dir), *self.options],
            folder / run_folders.CONSOLE,
            should_stop=self._stop.is_set,
            threads=self._threads,
        )
