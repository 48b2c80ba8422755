# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Predictions while they are being made: killed at any time, goes on."""

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hkd_mm.errors import UserError

Row = list | dict


class WorkFile:
    """Rows of JSON, one a line; the first line says what made them.

    A row is a list of cells, the first the path of the image, or
    ``dict(image=..., reason=...)`` of one that cannot be read. A line that a
    kill cut off is taken away when the file is opened again. Of what is done
    eight bytes an image are in memory. Who opens it holds
    :func:`.out_lock.only_writer`.

    Args:
        path: the file.
        header: what the rows depend on; a file with another is refused.
        copied: rows that a new file begins with.

    Raises:
        UserError: it is of another header.
    """

    def __init__(
        self, path: Path, header: dict[str, Any], copied: Iterable[Row] = ()
    ) -> None:
        self.path = path
        if not path.is_file():
            aside = Path(f'{path}.new')
            with open(aside, 'wb') as file:
                file.write(_line(header))
                file.writelines(map(_line, copied))
                sync(file)
            os.replace(aside, path)
        self._file = open(path, 'r+b')
        try:
            self._take_up(header)
        except BaseException:
            self._file.close()
            raise

    def _take_up(self, header: dict[str, Any]) -> None:
        found, end = self._file.readline(), self._file.tell()
        if _parsed(found) != header:
            raise UserError(
                f'{self.path} is of another model or other options '
                f'({_differing(_parsed(found), header)}); remove it, or give '
                'another --out'
            )
        done = array('Q')
        self.images = self.unreadable = 0
        for line in self._file:
            row = _parsed(line)
            if row is None:
                break
            end += len(line)
            done.append(_key(_image(row)))
            self._count(row)
        self._file.truncate(end)
        self._file.seek(end)
        self._done = np.sort(np.frombuffer(done, np.uint64))

    def _count(self, row: Row) -> None:
        if isinstance(row, dict):
            self.unreadable += 1
        else:
            self.images += 1

    def has(self, image: str) -> bool:
        """Whether an image was there when the file was opened."""
        key = np.uint64(_key(image))
        place = np.searchsorted(self._done, key)
        return place < len(self._done) and self._done[place] == key

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows; they survive the end of this process."""
        for row in rows:
            self._file.write(_line(row))
            self._count(row)
        self._file.flush()

    def rows(self) -> Iterator[Row]:
        """All rows, read again from the file."""
        with open(self.path, 'rb') as file:
            file.readline()
            for line in file:
                yield json.loads(line)

    def __enter__(self) -> 'WorkFile':
        return self

    def __exit__(self, *unused) -> None:
        self._file.close()


def sync(file: Any) -> None:
    """Have an open file reach the disk."""
    file.flush()
    os.fsync(file.fileno())


def _line(row: Row) -> bytes:
    # ASCII: names that are no Unicode, and line breaks in names, get through
    return json.dumps(row, separators=(',', ':')).encode() + b'\n'


def _parsed(line: bytes) -> Any:
    """The row of a whole line, else None."""
    if not line.endswith(b'\n'):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if row and isinstance(row, (list, dict)) else None


def _image(row: Row) -> str:
    return row['image'] if isinstance(row, dict) else row[0]


def _key(image: str) -> int:
    path = os.path.abspath(image).encode('utf-8', 'surrogateescape')
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), 'big')


def _differing(found: Any, header: dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return 'its first line is damaged'
    keys = {*found, *header}
    return ', '.join(
        sorted(key for key in keys if found.get(key) != header.get(key))
    )
