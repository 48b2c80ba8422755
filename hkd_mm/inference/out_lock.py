# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One process at a time writes a table."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hkd_mm.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: nobody is kept from writing it twice
    fcntl = None

_BUSY = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold ``<out>.lock``, which is removed at the end.

    The lock is that of a file of its own, opened once: ``flock`` stays while
    other files are opened and closed, and the kernel lets go of it when the
    process ends, however it ends. Where a file system has no locks, it is
    taken as held.

    Args:
        out: the table; its folder exists.

    Raises:
        UserError: another process holds it.
    """
    if fcntl is None:
        yield
        return
    path = Path(f'{out}.lock')
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(handle, out)
            if not _is_at(handle, path):  # removed by who held it before
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(handle)


def _take(handle: int, out: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            raise UserError(
                f'another process is writing {out}; wait for it, or give '
                'another --out'
            ) from None
        if error.errno not in _NO_LOCKS:
            raise


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
