# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A function over many files on all cores, with progress."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from .progress import tracked

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
        what: the job, shown with its progress on stderr.
        workers: processes; 0 takes all cores, 1 stays in this process.
    """
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
    end_with_parent()


def end_with_parent() -> None:
    """Have the kernel end this process when its parent is killed."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
