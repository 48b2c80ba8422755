# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Waiting for other processes, and whether they have ended."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_for(done: Callable[[], bool], seconds: float = 20) -> bool:
    """Look until something is so."""
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.05)
    return done()


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits to be reaped."""
    try:
        return ') Z ' in Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
