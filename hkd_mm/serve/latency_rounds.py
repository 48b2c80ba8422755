# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Time jobs in workers that take turns, each a process of its own.

A worker imports torch only where its runtime is torch, so that the memory of
the others is what a program without it needs.
"""

import multiprocessing
import resource
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.io.progress import Progress

RUNTIMES = ('eager', 'compiled', 'onnx', 'int8')
_WARM_UP = 3


@dataclass(frozen=True)
class Job:
    """What a worker times: an ``.onnx``, ``student.pth`` or config, at (H, W)."""

    network: str
    runtime: str
    file: str
    batch: int
    threads: int
    size: tuple[int, int]


@dataclass
class Timing:
    """What was measured of a job: seconds by round, peak bytes of memory, an error."""

    job: Job
    rounds: list[list[float]]
    memory: int = 0
    error: str = ''

    @property
    def times(self) -> np.ndarray:
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
    """Time jobs in rounds of turns of at least so many seconds and calls."""
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
        self._process = context.Process(target=work, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> '_Worker':
        return self

    def __exit__(self, *_) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()

    def wait(self) -> str:
        try:
            return self._pipe.recv()
        except EOFError:
            return self._ended()

    def ask(self, request):
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


def work(pipe: Connection, job: Job) -> None:
    """Answer each ``(seconds, calls)`` with times, then ``None`` with the peak memory.

    Sends an empty text first, or why it cannot begin.
    """
    try:
        call = _load(job)
        for _ in range(_WARM_UP):
            call()
    except Exception as error:  # shown in the table of the parent
        traceback.print_exc()
        pipe.send(f'{type(error).__name__}: {error}')
        return
    pipe.send('')
    while (request := pipe.recv()) is not None:
        (seconds, calls), times = request, []
        end = time.perf_counter() + seconds
        while len(times) < calls or time.perf_counter() < end:
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
        pipe.send(times)
    pipe.send(_peak_memory())


def _load(job: Job) -> Callable[[], object]:
    def noise(channels: int) -> np.ndarray:
        shape = (job.batch, channels, *job.size)
        return np.random.default_rng(0).standard_normal(shape, np.float32)

    if job.runtime in ('onnx', 'int8'):
        from hkd_mm.inference.backends import OnnxBackend

        network = OnnxBackend(job.file, job.threads)
        images = noise(network.channels)
        return lambda: network.logits(images)
    import torch

    from hkd_mm.inference.run_folder import load_network

    torch.set_num_threads(job.threads)
    network = load_network(job.file)
    batch = torch.from_numpy(noise(getattr(network, 'in_channels', 3)))
    if job.runtime == 'compiled':
        network = torch.compile(network, dynamic=False)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return network(batch, mode='tensor')

    return call


def _peak_memory() -> int:
    """Largest resident memory that this process had, in bytes."""
    try:  # Linux counts in ru_maxrss what the parent had before exec
        with open('/proc/self/status') as status:
            for line in status:
                if line.startswith('VmHWM:'):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
