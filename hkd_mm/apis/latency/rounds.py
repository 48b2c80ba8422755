# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Workers timed in turns, so that a busy minute falls on all of them."""

import multiprocessing
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

import numpy as np

from hkd_mm.errors import UserError

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
    """
    timings = [Timing(job, []) for job in jobs]
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
        for number in range(rounds):
            first = number % max(1, len(alive))
            for worker, timing in alive[first:] + alive[:first]:
                timing.rounds.append(worker.ask((seconds, calls)))
        for worker, timing in alive:
            timing.memory = worker.ask(None)
    return timings


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
