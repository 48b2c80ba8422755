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


# fcntl locks belong to a process, and closing any handle of the file releases
# them: files that this process holds are kept here and not opened again.
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
def locked(folder: Path, wait: bool = True, waiting: str = '') -> Iterator[bool]:
    """Hold the lock of a folder.

    The kernel releases it when the process ends, however it ends; children do not
    inherit it. Its holder may take it again; another thread of the process may not.
    Where a file system has no locks, it is taken as held: two builders of a packed
    store then write the same bytes to the same offsets.

    Args:
        folder: made when missing.
        wait: until it is released.
        waiting: message on stderr before a wait.

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
    """Describe the last holder of a lock: process, host, time."""
    if _key(folder) in _held:  # reading it would release it
        return f'this process, {os.getpid()}'
    try:
        text = (folder / 'lock').read_text(errors='replace').strip()
    except OSError:
        text = ''
    return text or 'another process'


def has_locks(folder: Path) -> bool:
    """Whether the file system of a folder, made when missing, has locks."""
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
    """Broadcast the value of rank 0."""
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
    handle = None
    try:
        handle = _open(folder)
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


def _release(handle: int | None, key: str) -> None:
    with _guard:
        if handle is not None:
            os.close(handle)
        _held.discard(key)


def _reserve(key: str, wait: bool, waiting: str) -> bool:
    """Keep the other threads of this process away."""
    while True:
        with _guard:
            if key not in _held:
                _held.add(key)
                return True
        if not wait:
            return False
        if waiting:
            print(waiting, file=sys.stderr, flush=True)
            waiting = ''
        time.sleep(0.1)


def _sign(handle: int) -> None:
    """Write the holder into the lock."""
    now = time.strftime('%Y-%m-%d %H:%M:%S')
    text = f'process {os.getpid()} on {socket.gethostname()} since {now}\n'
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)
    except OSError:  # a full disk must not end the holder
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


@contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold ``<out>.lock`` of a table, which is removed at the end.

    ``flock`` stays while other files are opened and closed, and the kernel
    releases it when the process ends, however it ends. Where a file system
    has no locks, it is taken as held.

    Raises:
        UserError: another process holds it.
    """
    path = Path(f'{out}.lock')
    while True:
        with open(path, 'a') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _BUSY:
                    raise UserError(
                        f'another process is writing {out}; wait for it, or '
                        'give another --out'
                    ) from None
                if error.errno not in _NO_LOCKS:
                    raise
            if not _is_at(file.fileno(), path):  # removed by its last holder
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
