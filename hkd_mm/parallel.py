# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A function over many files on all cores, with a progress bar."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def default_workers() -> int:
    """Cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_map(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    what: str,
    workers: int = 0,
) -> list[Any]:
    """Results in the order of the items.

    Args:
        function: importable, takes one item.
        items: what it is called with.
        what: said beside the progress bar, which goes to stderr and is
            shown on a terminal only.
        workers: processes; 0 takes all cores, 1 stays in this process.
    """
    from rich.console import Console
    from rich.progress import track

    items = list(items)
    workers = min(workers or default_workers(), max(1, len(items) // 16))
    console = Console(stderr=True)
    bar = dict(
        description=what,
        total=len(items),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    if workers == 1:
        return [function(item) for item in track(items, **bar)]
    size = max(1, min(32, len(items) // (4 * workers)))
    with ProcessPoolExecutor(workers, initializer=_one_thread) as pool:
        return list(track(pool.map(function, items, chunksize=size), **bar))


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(0)
    end_with_parent()


def end_with_parent() -> None:
    """Have the kernel end this process when its parent is killed."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
