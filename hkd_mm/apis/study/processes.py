# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The runs of a study, each in processes of its own."""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import (
    FIRST_EXCEPTION,
    Future,
    ThreadPoolExecutor,
    wait,
)
from pathlib import Path

from hkd_mm.progress import how_far, left_of_runs

from ..children import LOOK, Cut, terminated_as_exit
from ..cli import user_line
from .folders import FAILED, is_done, is_trained, read_json, summary
from .keys import Keys
from .plan import Run
from .units import Unit, stream_of_run, units_of
from .work import Work


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
        together: most runs that one process trains side by side.
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
        together: int = 1,
    ) -> None:
        self.runs, self.work_dir, self.metric = runs, work_dir, metric
        self.together = together
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

        A run counts as long as the mean of those that are done; trained
        together, it counts its share.
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
                for unit in self._units():
                    before = {
                        run.name: [
                            (name, futures[name])
                            for name in self._builds_on(run)
                        ]
                        for run in unit
                    }
                    future = pool.submit(self._unit, unit, before)
                    futures.update((run.name, future) for run in unit)
                _wait(set(futures.values()), tick)
                found = {
                    run.name: futures[run.name].result().get(run.name)
                    for run in self.runs
                }
            except BaseException:
                self._work.stop()  # each thread ends its process
                raise
            finally:
                pool.shutdown(cancel_futures=True)
        return {name: reason for name, reason in found.items() if reason}

    def _units(self) -> list[Unit]:
        """The runs, those side by side that go together."""
        if self.together == 1:
            return [(run,) for run in self.runs]
        return units_of(self.runs, self.together, self._stream)

    def _stream(self, run: Run) -> str | None:
        """What a run that is still to be trained can share."""
        if is_trained(run.folder(self.work_dir)):
            return None
        return stream_of_run(run, self.work_dir, self.options)

    def _builds_on(self, run: Run) -> list[str]:
        rows = {other.row.name: other.row for other in self.runs}
        return [run._replace(row=rows[name]).name for name in run.row.after]

    def _unit(
        self, unit: Unit, before: dict[str, list[tuple[str, Future]]]
    ) -> dict[str, str]:
        """Do runs that go together; why they failed, of those that did."""
        failed = {
            run.name: 'what it builds on failed'
            for run in unit
            if any(f.result().get(name) for name, f in before[run.name])
        }
        runs = [run for run in unit if run.name not in failed]
        new = [run.name for run in runs if run.name not in self._ended]
        begun = time.monotonic()
        self._begun.update(dict.fromkeys(new, begun))
        failed.update(self._do(runs))
        spent = (time.monotonic() - begun) / max(1, len(new))
        self._took += [spent for name in new if name not in failed]
        for name in new:
            del self._begun[name]
        self._ended.update(run.name for run in unit)
        return failed

    def _do(self, runs: list[Run]) -> dict[str, str]:
        failed = self._train_together(runs)
        for run in runs:
            if run.name not in failed:
                reason = self._one(run)
                if reason is not None:
                    failed[run.name] = reason
        return failed

    def _train_together(self, runs: list[Run]) -> dict[str, str]:
        """Train those that are not; one alone has time until its turn."""
        runs = self._untrained(runs)
        if len(runs) < 2:
            return {}
        try:
            failed = self._work.train_together(runs)
        except Exception as error:  # of all that were under way
            return {
                run.name: self._failed(run, error)
                for run in self._untrained(runs)
            }
        known = {run.name: run for run in runs}
        return {
            name: self._failed(known[name], reason)
            for name, reason in failed.items()
        }

    def _untrained(self, runs: list[Run]) -> list[Run]:
        return [r for r in runs if not is_trained(r.folder(self.work_dir))]

    def _one(self, run: Run) -> str | None:
        """Do one run; why it failed, if it did."""
        folder = run.folder(self.work_dir)
        if is_done(folder):
            self.say(f'{run.name}: was done before')
            return None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILED).unlink(missing_ok=True)
        try:
            if not is_trained(folder):
                self._work.train(run)
            self._work.test(run)
            told = summary(folder, self.metric)
        except Exception as error:  # of this run: the others go on
            return self._failed(run, error)
        self.say(f'{run.name}: {told}')
        return None

    def _failed(self, run: Run, error: Exception | str) -> str:
        """Leave a note of why; ended with the study it has not failed."""
        if isinstance(error, Cut):
            return 'it was ended with the study'
        reason = error
        if isinstance(error, Exception):
            reason = user_line(error) or f'{type(error).__name__}: {error}'
        note = json.dumps(dict(reason=reason), indent=1) + '\n'
        (run.folder(self.work_dir) / FAILED).write_text(note)
        self.say(f'{run.name}: failed: {reason}')
        return reason


def _wait(futures: set[Future], tick: Callable[[], None]) -> None:
    """Wait for all, or for one that raises, and raise that."""
    while futures:
        ended, futures = wait(futures, LOOK, FIRST_EXCEPTION)
        for future in ended:
            future.result()
        tick()
