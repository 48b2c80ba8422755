# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One builder at a time, also across processes and after a kill."""

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BUSY = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a folder.

    The kernel lets go of it when the process ends, however it ends; children
    do not inherit it. Where a file system has no locks, it is taken as held:
    two builders then write the same bytes to the same places.

    Args:
        folder: made when missing.
        wait: until another process lets go; it is told in one line.

    Yields:
        Whether it is held; always True with ``wait``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / 'lock', os.O_RDWR | os.O_CREAT, 0o666)
    try:
        held = _take(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not held and wait:
            print(
                f'packed store: another process builds {folder}; waiting',
                file=sys.stderr,
                flush=True,
            )
            held = _take(handle, fcntl.LOCK_EX)
        yield held
    finally:
        os.close(handle)


def _take(handle: int, how: int) -> bool:
    try:
        fcntl.lockf(handle, how)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True
