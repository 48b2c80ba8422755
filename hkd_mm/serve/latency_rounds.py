# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Time jobs in workers that take turns."""

import multiprocessing
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.io.progress import Progress
from hkd_mm.serve.latency_worker import Job, work


@dataclass
class Timing:
    """What was measured of a job.

    Attributes:
        rounds: times of the calls of each round, in seconds.
        memory: peak of its process, in bytes.
        error: why there is nothing, else empty.
    """

    job: Job
    rounds: list[list[float]]
    memory: int = 0
    error: str = ''

    @property
    def times(self) -> np.ndarray:
        """Seconds of all calls."""
        return np.concatenate(self.rounds)

    def times_faster(self, other: 'Timing') -> float:
        """Than another job: the median over the rounds' ratios."""
        pairs = zip(other.rounds, self.rounds, strict=True)
        return median(median(theirs) / median(own) for theirs, own in pairs)


def measure(
    jobs: list[Job],
    rounds: int,
    seconds: float,
    calls: int,
    report: Callable[[str], None],
    progress: Progress,
) -> list[Timing]:
    """Time jobs side by side: in every round each has a turn.

    Only the one whose turn it is computes. The order goes on by one from
    round to round.

    Args:
        jobs: processes of their own, all there at once.
        rounds: turns of each.
        seconds: that a turn lasts at least.
        calls: that a turn has at least.
        report: takes a line for each job that fails.
        progress: in turns, of these jobs and others.
    """
    timings = [Timing(job, []) for job in jobs]
    with ExitStack() as started:
        alive = []
        for timing in timings:
            job = timing.job
            worker = started.enter_context(_Worker(job))
            timing.error = worker.wait()
            if timing.error:
                report(f'{job.network}, {job.runtime}: {timing.error}')
                progress.advance(rounds)
            else:
                alive.append((worker, timing))
        for number in range(rounds):
            first = number % max(1, len(alive))
            for worker, timing in alive[first:] + alive[:first]:
                timing.rounds.append(worker.ask((seconds, calls)))
                progress.advance()
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

    def wait(self) -> str:
        """Wait until it is ready; return why it is not, else an empty text."""
        try:
            return self._pipe.recv()
        except EOFError:
            return self._ended()

    def ask(self, request):
        """Send a request and return the answer.

        Raises:
            UserError: its process is gone.
        """
        try:
            self._pipe.send(request)
            return self._pipe.recv()
        except (EOFError, BrokenPipeError):
            raise UserError(
                f'{self._job.network}, {self._job.runtime}: {self._ended()}; '
                'time fewer networks or a smaller --batch at once'
            ) from None

    def _ended(self) -> str:
        self._process.join()
        return (
            f'its process ended with {self._process.exitcode} while it was '
            'timed (out of memory?)'
        )
