# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Workers timed in turns, so that a busy minute falls on all of them."""

import multiprocessing
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.progress import Progress

from .worker import Job, work


@dataclass
class Timing:
    """What was measured of a job.

    Attributes:
        job: which.
        rounds: times of the calls of each round, in seconds.
        memory: peak of its process, in bytes.
        error: why there is nothing, else empty.
    """

    job: Job
    rounds: list[list[float]]
    memory: int = 0
    error: str = ''

    @property
    def median(self) -> float:
        """Of all calls, in seconds."""
        return median(self._all)

    @property
    def p99(self) -> float:
        """99th percentile of all calls, in seconds."""
        return float(np.percentile(self._all, 99))

    @property
    def calls(self) -> int:
        """How many there were."""
        return len(self._all)

    @property
    def _all(self) -> list[float]:
        return [seconds for times in self.rounds for seconds in times]

    def times_faster(self, other: 'Timing') -> float:
        """Than another job: the median over the rounds' ratios."""
        pairs = zip(other.rounds, self.rounds, strict=True)
        return median(median(theirs) / median(own) for theirs, own in pairs)


def measure(
    jobs: list[Job],
    rounds: int,
    seconds: float,
    calls: int,
    say: Callable[[str], None],
    progress: 'TurnsProgress',
) -> list[Timing]:
    """Time jobs side by side: in every round each has a turn.

    Only the one whose turn it is computes. The order goes on by one from
    round to round.

    Args:
        jobs: processes of their own, all there at once.
        rounds: turns of each.
        seconds: that a turn lasts at least.
        calls: that a turn has at least.
        say: takes a line for each job that fails.
        progress: of all jobs, with these among them.
    """
    timings = [Timing(job, []) for job in jobs]
    progress.begin_group()
    with ExitStack() as started:
        alive = []
        for timing in timings:
            worker = started.enter_context(_Worker(timing.job))
            timing.error = worker.begun()
            if timing.error:
                job = timing.job
                say(f'{job.net}, {job.runtime}: {timing.error}')
            else:
                alive.append((worker, timing))
            progress.started(timing.job, rounds if timing.error else 0)
        for number in range(rounds):
            first = number % max(1, len(alive))
            for worker, timing in alive[first:] + alive[:first]:
                timing.rounds.append(worker.ask((seconds, calls)))
                progress.advance()
        for worker, timing in alive:
            timing.memory = worker.ask(None)
    return timings


class TurnsProgress(Progress):
    """Progress of groups of jobs; knows that a group takes time to start.

    Args:
        groups: sizes, in jobs.
        rounds: turns of a job.
    """

    def __init__(self, groups: list[int], rounds: int) -> None:
        super().__init__('timing', sum(groups) * rounds, 'turns')
        self._jobs = sum(groups)
        self._to_start = self._jobs
        self._starting = self._turning = 0.0  # seconds

    def begin_group(self) -> None:
        """Begin to start the jobs of a group."""
        self._clock = time.monotonic()

    def started(self, job: Job, skipped: int) -> None:
        """Count a job that is ready.

        Args:
            job: which.
            skipped: turns that it will not have, as it cannot be timed.
        """
        self._to_start -= 1
        self._starting += self._lap()
        self.done += skipped
        self._first += skipped
        self.update(self.done, f'{job.net} in {job.runtime} is ready')

    def advance(self, count: int = 1, note: str = '') -> None:
        """Count turns that have just ended."""
        self._turning += self._lap()
        super().advance(count, note)

    def seconds_left(self) -> float | None:
        """Estimate the rest from what a start and a turn took so far."""
        turns = self.done - self._first
        started = self._jobs - self._to_start
        if not turns or not started:
            return None
        return (
            self._turning / turns * (self.total - self.done)
            + self._starting / started * self._to_start
        )

    def _lap(self) -> float:
        before, self._clock = self._clock, time.monotonic()
        return self._clock - before


class _Worker:
    """A process that is ended with the block."""

    def __init__(self, job: Job) -> None:
        self._job = job
        context = multiprocessing.get_context('spawn')
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=work, args=(theirs, job), daemon=True
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> '_Worker':
        return self

    def __exit__(self, *_) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()

    def begun(self) -> str:
        """Wait until it is ready; why it is not, else empty."""
        try:
            return self._pipe.recv()
        except EOFError:
            return self._ended()

    def ask(self, message):
        """What it answers.

        Raises:
            UserError: its process is gone.
        """
        try:
            self._pipe.send(message)
            return self._pipe.recv()
        except (EOFError, BrokenPipeError):
            raise UserError(
                f'{self._job.net}, {self._job.runtime}: {self._ended()}; '
                'time fewer nets or a smaller --batch at once'
            ) from None

    def _ended(self) -> str:
        self._process.join()
        return (
            f'its process ended with {self._process.exitcode} while it was '
            'timed (out of memory?)'
        )
