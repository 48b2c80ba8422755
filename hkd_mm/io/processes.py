# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Processes that do not outlive the one that started them."""

import ctypes
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_parent = os.getppid()


def _forked() -> None:
    global _parent
    _parent = os.getppid()


if hasattr(os, 'register_at_fork'):  # not on Windows
    os.register_at_fork(after_in_child=_forked)


def die_with_parent(parent: int | None = None) -> None:
    """Have this process killed as soon as its parent ends, however that ends.

    On Linux the kernel does so, when the parent's *thread* that started this
    process ends; elsewhere a thread looks once a second. ``parent`` is its process id,
    None that of when this module was imported.

    Raises:
        SystemExit: the parent has ended already.
    """
    parent = parent or _parent
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        raise SystemExit(f'the process {parent} that started this has ended')


@contextmanager
def terminated_as_exit() -> Iterator[list[int]]:
    """Unwind at SIGTERM as at Ctrl-C, where this thread may arrange that.

    Yields:
        A list that gets the number of the signal, for what is raised on the way out
        may hide the ``SystemExit``: loaders find their workers terminated as well.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def leave(number: int, frame) -> None:
        unwinding = received and sys.exc_info()[1] is not None
        received.append(number)
        # what is raised in a destructor or while forking is lost: in a moment again
        signal.signal(signal.SIGALRM, leave)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        names = (one.f_code.co_name for one, _ in traceback.walk_stack(frame))
        if not unwinding and '__del__' not in names:
            raise SystemExit(128 + signal.SIGTERM)

    alarm = signal.getsignal(signal.SIGALRM)
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield received
    finally:
        if received:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGTERM, before)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
