# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Show the progress of long jobs, and map a function on all cores."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TextIO, TypeVar

from hkd_mm.errors import UserError
from hkd_mm.io.processes import die_with_parent

T = TypeVar('T')
_MOST_WORKERS = 1024
EVERY = 30.0  # seconds between two lines where there is no terminal
REDRAW = 0.2  # seconds between two drawings on a terminal


def about(seconds: float) -> str:
    """Round a duration in seconds to ``90 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 120:
        return f'{seconds:.0f} s'
    if seconds < 7200:
        return f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.1f} h'


def how_far(
    done: int,
    total: int,
    seconds_left: float | None = None,
    unit: str = '',
    note: str = '',
) -> str:
    """Describe a job, as in ``7 of 120 images, about 90 s left``.

    ``note`` goes between the count and the time.
    """
    parts = [f'{done} of {total} {unit}'.rstrip(), *([note] if note else [])]
    if seconds_left is not None and done < total:
        parts.append(f'about {about(seconds_left)} left')
    return ', '.join(parts)


def left_of_runs(
    finished: Sequence[float], running: Sequence[float], waiting: int, side_by_side: int
) -> float | None:
    """Estimate the seconds that parallel runs still take; None before one has finished.

    ``finished`` and ``running`` are seconds of each run, ``waiting`` a number of runs.
    """
    if not finished:
        return None
    mean = sum(finished) / len(finished)
    rest = [max(0.0, mean - spent) for spent in running]
    work = sum(rest) + waiting * mean
    return max([work / side_by_side, *rest])


class Progress:
    """Context that shows the progress of a job.

    On a terminal a bar that stays in place, if rich is installed. Elsewhere a
    line every 30 s: a job that takes less writes nothing, one that takes more ends with
    a line too. No thread draws, so processes may be forked meanwhile. Units of the
    ``total`` that an earlier call has ``done`` are no part of the speed.
    """

    def __init__(
        self,
        what: str,
        total: int,
        unit: str = '',
        done: int = 0,
        stream: TextIO | None = None,
    ) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self._first = done
        self._stream = stream
        self._bar: Any = None
        self._printed = False

    def __enter__(self) -> 'Progress':
        stream = self._stream or sys.stderr
        self._begun = self._shown = time.monotonic()
        if stream.isatty():
            self._bar = _bar(stream)
        if self._bar is not None:
            self._task = self._bar.add_task(self.text(), total=self.total)
            self._bar.start()
            self.update(self.done, force=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self._printed and error[:1] == (None,):
            spent = about(time.monotonic() - self._begun)
            self._print(f'{self.text(ended=True)} in {spent}')

    @property
    def in_place(self) -> bool:
        return self._bar is not None

    @property
    def due(self) -> bool:
        wait = EVERY if self._bar is None else REDRAW
        return time.monotonic() - self._shown >= wait

    def advance(self, count: int = 1, note: str = '') -> None:
        """Count finished units; ``note`` is shown beside their number."""
        self.update(self.done + count, note)

    def update(self, done: int, note: str = '', force: bool = False) -> None:
        """Set the number of finished units; show it when due, or forced."""
        self.done = done
        if not force and not self.due:
            return
        self._shown = time.monotonic()
        if self._bar is None:
            self._print(self.text(note))
            return
        self._bar.update(
            self._task, completed=done, total=self.total, description=self.text(note)
        )
        self._bar.refresh()

    def text(self, note: str = '', ended: bool = False) -> str:
        """Describe the job, once it has ended without the time left."""
        left = None if ended else self.seconds_left()
        counted = how_far(self.done, self.total, left, self.unit, note)
        return f'{self.what}: {counted}'

    def seconds_left(self) -> float | None:
        """Estimate the rest at the speed so far; None before the first."""
        fresh = self.done - self._first
        if fresh < 1:
            return None
        spent = time.monotonic() - self._begun
        return spent / fresh * (self.total - self.done)

    def _print(self, line: str) -> None:
        self._printed = True
        print(line, file=self._stream or sys.stderr, flush=True)


def _bar(stream: TextIO) -> Any:
    """Make a bar of rich; None without rich."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar
    except ImportError:  # hkd_mm.inference does without
        return None
    return Bar(
        TextColumn('{task.description}', markup=False),
        BarColumn(None),  # what room there is: the text matters
        console=Console(file=stream),
        auto_refresh=False,
        transient=True,
        expand=True,
    )


def tracked(items: Iterable[T], what: str, total: int, unit: str = '') -> Iterator[T]:
    """Yield items and show the progress, see :class:`Progress`."""
    with Progress(what, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def default_workers() -> int:
    """Cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_workers(workers: int) -> None:
    """Refuse a number of processes below 0 or above 1024."""
    if not 0 <= workers <= _MOST_WORKERS:
        raise UserError(
            f'--workers {workers} must lie between 0, all cores, and {_MOST_WORKERS}'
        )


def parallel_map(
    function: Callable[[Any], Any], items: Iterable[Any], what: str, workers: int = 0
) -> list[Any]:
    """Map an importable function over items; results in their order.

    Of the ``workers`` 0 takes all cores, 1 stays in this process.
    """
    check_workers(workers)
    items = list(items)
    total = len(items)
    workers = min(workers or default_workers(), max(1, total // 16))
    if workers == 1:
        return list(tracked(map(function, items), what, total))
    size = max(1, min(32, len(items) // (4 * workers)))
    with ProcessPoolExecutor(workers, initializer=_one_thread) as pool:
        done = pool.map(function, items, chunksize=size)
        return list(tracked(done, what, total))


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(0)
    die_with_parent()
