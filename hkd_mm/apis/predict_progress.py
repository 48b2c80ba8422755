# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How far ``tools/predict.py`` is: a bar, or a line now and then."""

import sys
import time

from hkd_mm.inference.folder import find_images

_EVERY = 30.0  # seconds between two lines where there is no terminal


def say(line: str) -> None:
    """One line on stderr."""
    print(line, file=sys.stderr, flush=True)


class Progress:
    """Counts photographs; on a terminal with a bar, if rich is installed.

    Args:
        places: counted in advance for the bar.
    """

    def __init__(self, places: list[str]) -> None:
        self._bar = self._task = None
        if sys.stderr.isatty():
            self._make_bar(places)

    def _make_bar(self, places: list[str]) -> None:
        try:
            from rich import progress
            from rich.console import Console
        except ImportError:
            return
        self._bar = progress.Progress(
            progress.TextColumn('{task.description}'),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn('{task.fields[rate]}'),
            console=Console(stderr=True),
        )
        total = sum(1 for _ in find_images(places, lambda *unused: None))
        self._task = self._bar.add_task('predicting', total=total, rate='')

    def __enter__(self) -> 'Progress':
        self._began = self._told = time.monotonic()
        self._count = 0
        if self._bar is not None:
            self._bar.start()
        return self

    def advance(self, count: int, before: bool = False) -> None:
        """Some more are done.

        Args:
            count: how many.
            before: by an earlier call, which is no part of the rate.
        """
        now = time.monotonic()
        self._count += 0 if before else count
        rate = f'{self._count / max(now - self._began, 1e-3):.0f} images/s'
        if self._bar is not None:
            self._bar.update(self._task, advance=count, rate=rate)
        elif now - self._told >= _EVERY:
            self._told = now
            say(f'{self._count} images, {rate}')

    def __exit__(self, *unused) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._count:
            seconds = time.monotonic() - self._began
            rate = self._count / max(seconds, 1e-3)
            say(
                f'{self._count} images in {seconds:.1f} s, {rate:.0f} a second'
            )
