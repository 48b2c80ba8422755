# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Locks of folders and files, across processes and after a kill.

They are ``flock(2)`` locks: of an open file, so that no other handle of it releases
them, and the kernel does when the process ends, however it ends. Where a file system
has no locks, they are taken as held.
"""

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError

_BUSY = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_AT_ONCE = fcntl.LOCK_EX | fcntl.LOCK_NB

_open: set[int] = set()  # handles that hold, or wait for, a lock
_mine: ContextVar[frozenset[str]] = ContextVar('locks', default=frozenset())


def _forget() -> None:
    """Children inherit no locks: theirs would outlive the parent."""
    for handle in _open:
        os.close(handle)
    _open.clear()
    _mine.set(frozenset())


os.register_at_fork(after_in_child=_forget)


@contextmanager
def locked(folder: Path, wait: bool = True, waiting: str = '') -> Iterator[bool]:
    """Hold the lock of a folder, which is made when missing.

    Its holder may take it again; another thread of the process may not. ``waiting`` is
    a message on stderr before a wait.

    Yields:
        Whether it is held; always True with ``wait``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = os.path.realpath(folder)
    if key in _mine.get():
        yield True
        return
    with _handle(folder) as handle:
        held = _take(handle, _AT_ONCE)
        if not held and wait:
            if waiting:
                print(waiting, file=sys.stderr, flush=True)
            held = _take(handle, fcntl.LOCK_EX)
        if not held:
            yield False
            return
        now = time.strftime('%Y-%m-%d %H:%M:%S')
        text = f'process {os.getpid()} on {socket.gethostname()} since {now}\n'
        with suppress(OSError):  # a full disk must not end the holder
            os.ftruncate(handle, 0)
            os.pwrite(handle, text.encode(), 0)
        _mine.set(_mine.get() | {key})
        try:
            yield True
        finally:
            _mine.set(_mine.get() - {key})


def is_locked(folder: Path) -> bool:
    """Whether another process or thread holds the lock of a folder."""
    if os.path.realpath(folder) in _mine.get() or not (folder / 'lock').exists():
        return False
    with _handle(folder) as handle:
        return not _take(handle, _AT_ONCE)


def holder(folder: Path) -> str:
    """Describe the last holder of a lock: process, host, time."""
    try:
        text = (folder / 'lock').read_text(errors='replace').strip()
    except OSError:
        text = ''
    return text or 'another process'


def has_locks(folder: Path) -> bool:
    """Whether the file system of a folder, made when missing, has locks."""
    folder.mkdir(parents=True, exist_ok=True)
    with _handle(folder) as handle:
        try:
            fcntl.flock(handle, _AT_ONCE)
        except OSError as error:
            return error.errno not in _NO_LOCKS
    return True


def as_rank_0(value: Any) -> Any:
    """Broadcast the value of rank 0."""
    from mmengine.dist import broadcast_object_list

    box = [value]
    broadcast_object_list(box, src=0)
    return box[0]


@contextmanager
def _handle(folder: Path) -> Iterator[int]:
    handle = os.open(folder / 'lock', os.O_RDWR | os.O_CREAT, 0o666)
    _open.add(handle)
    try:
        yield handle
    finally:
        if handle in _open:  # not in a child that was forked meanwhile
            _open.remove(handle)
            os.close(handle)


def _take(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


@contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold ``<out>.lock`` of a table, which is removed at the end.

    Raises:
        UserError: another process holds it.
    """
    path = Path(f'{out}.lock')
    while True:
        with open(path, 'a') as file:
            if not _take(file.fileno(), _AT_ONCE):
                raise UserError(
                    f'another process is writing {out}; wait for it, or '
                    'give another --out'
                )
            try:
                there = os.path.samestat(os.fstat(file.fileno()), os.stat(path))
            except FileNotFoundError:
                there = False
            if not there:  # removed by its last holder
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
