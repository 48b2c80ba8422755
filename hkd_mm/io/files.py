# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Walk folders, hash files, read small JSON files, write whole files."""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_DEEPEST = 100  # brackets within brackets; our files have five
_MARKS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}]', re.DOTALL)
# Besides hidden folders: full-size copies, and what file systems add.
SKIPPED = frozenset(
    ('originals', '@eaDir', '__MACOSX', '#recycle', '#snapshot', '@Recycle')
    + ('$RECYCLE.BIN', 'System Volume Information', 'lost+found')
)


def check_regular(path: str | os.PathLike) -> None:
    """Refuse what may never end or never begin when it is read.

    Raises:
        OSError: missing, a folder, FIFO, device or socket, or without any bytes, as
            the files of ``/proc`` are.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, 'a FIFO, device or socket, no file', path)
    if not found.st_size:
        raise OSError(errno.ENODATA, 'the file is empty', path)


def read_bytes(path: str | os.PathLike) -> bytes:
    """Read a file that :func:`check_regular` lets pass."""
    check_regular(path)
    return Path(path).read_bytes()


def sha256(path: str | os.PathLike) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def read_json(path: str | os.PathLike, **options) -> Any:
    """Read a JSON file whose author may be anybody, see :func:`parse_json`.

    Raises:
        OSError: it cannot be read, see :func:`check_regular`.
        ValueError: it is empty, no JSON, or nested too deeply.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        if error.errno == errno.ENODATA:
            raise ValueError(error.strerror) from None
        raise
    return parse_json(data, **options)


def parse_json(data: bytes, **options) -> Any:
    """Parse JSON whose author may be anybody.

    Python's own guard of its stack depends on a limit that other packages raise.

    Raises:
        ValueError: no JSON, or nested too deeply.
    """
    depth = 0
    for mark in _MARKS.findall(data):
        depth += (mark in (b'[', b'{')) - (mark in (b']', b'}'))
        if depth > _DEEPEST:
            raise ValueError('nested too deeply')
    return json.loads(data, **options)


def to_json(value: Any) -> str:
    """Text of a JSON file that every reader takes: NaN and infinity become null.

    What JSON does not know becomes its text.
    """
    plain = json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)
    return json.dumps(plain, indent=1, ensure_ascii=False) + '\n'


def printable(name: str) -> str:
    """A file name as text: bytes that are no UTF-8 are written in hexadecimal."""
    raw = name.encode('utf-8', 'surrogateescape')
    return raw.decode('utf-8', 'backslashreplace')


def read_record(path: str | os.PathLike) -> dict[str, Any]:
    """Read a JSON object; empty where the file is absent or damaged."""
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def replacing(path: Path, mode: str = 'wb', **options) -> Iterator[IO]:
    """Open a file that takes its name when the block has ended well."""
    name = path.name
    if len(os.fsencode(name)) > 200:  # with more the disk might not take it
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    aside = path.with_name(f'.{name}.{os.getpid()}.part')
    try:
        with open(aside, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def is_skipped(name: str) -> bool:
    """Whether a folder of this name holds nothing to read."""
    return name.startswith('.') or name in SKIPPED


def walk(
    root: str | os.PathLike,
    on_repeat: Callable[[str], Any] | None = None,
    on_odd: Callable[[str], Any] | None = None,
    on_error: Callable[[OSError], Any] | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder with the names of its files, both sorted.

    Links to folders are followed, but no folder is read twice, so loops of links end.

    Args:
        on_repeat: called with the path of each folder that was read before.
        on_odd: called with what is neither file nor folder: FIFOs, devices, links
            to nowhere.
        on_error: called where a folder cannot be listed, which is then left out.

    Raises:
        OSError: a folder cannot be listed, without ``on_error``.
    """
    seen: set[tuple[int, int]] = set()
    stack = [os.fspath(root)]
    while stack:
        folder = stack.pop()
        folders, files = [], []
        try:
            state = os.stat(folder)
            identity = (state.st_dev, state.st_ino)
            if identity in seen:
                if on_repeat is not None:
                    on_repeat(folder)
                continue
            seen.add(identity)
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        if not is_skipped(entry.name):
                            folders.append(entry.path)
                    elif entry.is_file():
                        files.append(entry.name)
                    elif on_odd is not None:
                        on_odd(entry.path)
        except OSError as error:
            if on_error is None:
                raise
            on_error(error)
        yield folder, sorted(files)
        stack += sorted(folders, reverse=True)
