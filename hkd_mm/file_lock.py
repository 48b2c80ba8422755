# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One at a time in a folder, also across processes and after a kill."""

import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

_BUSY = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(
    folder: Path, wait: bool = True, waiting: str = ''
) -> Iterator[bool]:
    """Hold the lock of a folder.

    The kernel lets go of it when the process ends, however it ends; children
    do not inherit it. Where a file system has no locks, it is taken as held:
    two builders of a packed store then write the same bytes to the same
    places.

    Args:
        folder: made when missing.
        wait: until another process lets go.
        waiting: said on stderr when there is something to wait for.

    Yields:
        Whether it is held; always True with ``wait``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / 'lock', os.O_RDWR | os.O_CREAT, 0o666)
    try:
        held = _take(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not held and wait:
            if waiting:
                print(waiting, file=sys.stderr, flush=True)
            held = _take(handle, fcntl.LOCK_EX)
        yield held
    finally:
        os.close(handle)


def has_locks(folder: Path) -> bool:
    """Whether the file system of a folder knows locks.

    Args:
        folder: made when missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / 'lock', os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    finally:
        os.close(handle)
    return True


@contextmanager
def locked_by_all(
    folder: Path, waiting: str, pause: float = 2.0
) -> Iterator[None]:
    """Hold the lock of a folder for all processes of a distributed run.

    Rank 0 takes it. It asks again and again and tells the others each time,
    so that none of them waits in a collective until that times out.

    Args:
        folder: made when missing.
        waiting: said once by rank 0 when there is something to wait for.
        pause: seconds between two attempts.
    """
    from mmengine.dist import is_main_process

    said = False
    while True:
        with ExitStack() as stack:
            held = is_main_process() and stack.enter_context(
                locked(folder, wait=False)
            )
            if as_rank_0(held):
                yield
                return
        if is_main_process() and not said:
            print(waiting, file=sys.stderr, flush=True)
            said = True
        time.sleep(pause)


def as_rank_0(value: Any) -> Any:
    """What rank 0 has, on every rank."""
    from mmengine.dist import broadcast_object_list

    box = [value]
    broadcast_object_list(box, src=0)
    return box[0]


def _take(handle: int, how: int) -> bool:
    try:
        fcntl.lockf(handle, how)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True
