# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Processes that do not outlive the one that started them."""

import ctypes
import os
import signal
import sys
import threading
import time

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


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
