# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Locks of folders and files, across processes and after a kill."""

import errno
import fcntl
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError

_BUSY = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


# fcntl locks belong to a process, and closing any handle of the file lets go
# of them: what this process holds is kept here and not opened again.
_guard = threading.Lock()
_held: set[str] = set()
_mine: ContextVar[frozenset[str]] = ContextVar('locks', default=frozenset())


def _forget() -> None:
    """Children inherit no locks."""
    global _guard
    _guard = threading.Lock()
    _held.clear()
    _mine.set(frozenset())


os.register_at_fork(after_in_child=_forget)


@contextmanager
def locked(
    folder: Path, wait: bool = True, waiting: str = ''
) -> Iterator[bool]:
    """Hold the lock of a folder.

    The kernel lets go of it when the process ends, however it ends; children
    do not inherit it. Who holds it may take it again; another thread of the
    process may not. Where a file system has no locks, it is taken as held:
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
    key = _key(folder)
    if key in _mine.get():
        yield True
        return
    handle = _acquire(folder, wait, waiting)
    if handle is None:
        yield False
        return
    _mine.set(_mine.get() | {key})
    try:
        yield True
    finally:
        _mine.set(_mine.get() - {key})
        _release(handle, key)


def is_locked(folder: Path) -> bool:
    """Whether another process or thread holds the lock of a folder."""
    key = _key(folder)
    if key in _mine.get() or not (folder / 'lock').exists():
        return False
    with _guard:
        if key in _held:
            return True
        handle = _open(folder)
        try:
            return not _take(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(handle)


def holder(folder: Path) -> str:
    """Who took the lock of a folder last, in words: process, host, time."""
    if _key(folder) in _held:  # reading it would let go of it
        return f'this process, {os.getpid()}'
    try:
        text = (folder / 'lock').read_text(errors='replace').strip()
    except OSError:
        text = ''
    return text or 'another process'


def has_locks(folder: Path) -> bool:
    """Whether the file system of a folder knows locks.

    Args:
        folder: made when missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if _key(folder) in _held:
        return True
    handle = _open(folder)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    finally:
        os.close(handle)
    return True


def as_rank_0(value: Any) -> Any:
    """What rank 0 has, on every rank."""
    from mmengine.dist import broadcast_object_list

    box = [value]
    broadcast_object_list(box, src=0)
    return box[0]


def _key(folder: Path) -> str:
    return os.path.realpath(folder / 'lock')


def _open(folder: Path) -> int:
    return os.open(folder / 'lock', os.O_RDWR | os.O_CREAT, 0o666)


def _acquire(folder: Path, wait: bool, waiting: str) -> int | None:
    """A handle that holds the lock, or None."""
    key, held = _key(folder), False
    if not _reserve(key, wait, waiting):
        return None
    try:
        handle = _open(folder)
    except OSError:
        _held.discard(key)
        raise
    try:
        held = _take(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not held and wait:
            if waiting:
                print(waiting, file=sys.stderr, flush=True)
            held = _take(handle, fcntl.LOCK_EX)
    finally:
        if not held:
            _release(handle, key)
    if held:
        _sign(handle)
    return handle if held else None


def _release(handle: int, key: str) -> None:
    with _guard:
        os.close(handle)
        _held.discard(key)


def _reserve(key: str, wait: bool, waiting: str) -> bool:
    """Keep the other threads of this process away."""
    said = False
    while True:
        with _guard:
            if key not in _held:
                _held.add(key)
                return True
        if not wait:
            return False
        if waiting and not said:
            print(waiting, file=sys.stderr, flush=True)
            said = True
        time.sleep(0.1)


def _sign(handle: int) -> None:
    """Leave in the lock who holds it."""
    now = time.strftime('%Y-%m-%d %H:%M:%S')
    text = f'process {os.getpid()} on {socket.gethostname()} since {now}\n'
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)
    except OSError:  # a full disk must not end who merely waits for room
        pass


def _take(handle: int, how: int) -> bool:
    try:
        fcntl.lockf(handle, how)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


try:
    import fcntl
except ImportError:  # Windows: nobody is kept from writing it twice
    fcntl = None


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
            _lock_output(handle, out)
            if not _is_at(handle, path):  # removed by who held it before
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(handle)


def _lock_output(handle: int, out: Path) -> None:
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
