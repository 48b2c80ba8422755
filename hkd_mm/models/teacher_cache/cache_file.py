# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A folder of memory maps: arrays over (view, row), with checksums."""

import json
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.io.files import read_json, replacing
from hkd_mm.io.locks import locked

FORMAT = 1
_HEADER, _DONE, _CRC = 'header.json', 'done.u8', 'crc.u32'
Arrays = dict[str, tuple[tuple[int, ...], str]]  # name -> (row shape, dtype)


class CacheFile:
    """Entries (view, row) of several arrays, written once, read ever after.

    A folder holds ``header.json``, one file an array ``[num_views, num_rows, ...]``, a
    CRC-32 an entry and a byte an entry that marks it as complete. Marks are written
    last, so that a killed process leaves only complete entries marked; where a power
    cut loses values, :meth:`verify` removes the mark. Processes may write at the same
    time, also the same entries: the first one stays.

    Args:
        folder: made if it is missing.
        parts: name -> text of everything that the entries depend on; all of
            it must agree with an existing folder.
        arrays: name -> (shape of a row, numpy dtype).
        num_rows: images and copies of them.

    Raises:
        UserError: the folder belongs to something else, or is truncated or
            damaged; the message names the file and the part.
        OSError: the disk is full.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        parts: dict[str, str],
        arrays: Arrays,
        num_views: int,
        num_rows: int,
    ) -> None:
        self.folder = Path(folder)
        self.num_views, self.num_rows = num_views, num_rows
        self.arrays = arrays
        header = dict(
            format=FORMAT,
            parts=parts,
            num_views=num_views,
            num_rows=num_rows,
            arrays={k: [list(s), d] for k, (s, d) in arrays.items()},
        )
        with locked(self.folder):
            if not os.path.lexists(self.folder / _HEADER):
                self._create(header)
        _compare(self.folder / _HEADER, header)
        self._maps = {name: self._open(f'{name}.bin') for name in arrays}
        self._done, self._crc = self._open(_DONE), self._open(_CRC)

    @staticmethod
    def size_of(arrays: Arrays, num_views: int, num_rows: int) -> int:
        return num_views * num_rows * sum(map(_bytes, _layout(arrays).values()))

    @staticmethod
    def exists(folder: str | os.PathLike) -> bool:
        """Whether a folder holds a cache, whose disk space is taken."""
        return (Path(folder) / _HEADER).is_file()

    def is_complete(self, view: int, rows: np.ndarray) -> bool:
        return bool(self._done[view, rows].all())

    def count(self) -> int:
        return int(np.count_nonzero(self._done))

    def read(self, view: int, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Name -> (B, ...) of entries that are stored."""
        assert self._done[view, rows].all(), 'is_complete() comes first'
        return {name: data[view, rows] for name, data in self._maps.items()}

    def read_view(self, view: int) -> dict[str, np.ndarray]:
        """Name -> (num_rows, ...), a copy; zeros where nothing is stored."""
        return {name: np.array(data[view]) for name, data in self._maps.items()}

    def write(self, view: int, rows: np.ndarray, values: dict[str, np.ndarray]) -> bool:
        """Store (B, ...) a name; rows that are stored already stay.

        Returns:
            Whether the file now holds exactly these values. Otherwise some
            rows were there before, or one comes twice: read them back.
        """
        with locked(self.folder):
            new = np.flatnonzero(self._done[view, rows] == 0)
            new = new[np.unique(rows[new], return_index=True)[1]]
            chosen = rows[new]
            stored = {
                name: np.ascontiguousarray(values[name][new], dtype)
                for name, (_, dtype) in self.arrays.items()
            }
            for name, data in self._maps.items():
                data[view, chosen] = stored[name]
            self._crc[view, chosen] = [
                _checksum([stored[name][i] for name in self.arrays])
                for i in range(len(chosen))
            ]
            self._done[view, chosen] = 1
        return len(chosen) == len(rows)

    def entries(self) -> np.ndarray:
        """(view, row) of all entries that are stored, (M, 2)."""
        return np.argwhere(self._done)

    def verify(self) -> int:
        """Compare every entry with its checksum, and forget those that differ.

        Returns:
            Number of entries that are no longer marked as stored.
        """
        with locked(self.folder):  # no entry is half written meanwhile
            damaged = [
                (view, row)
                for view, row in self.entries()
                if self._crc[view, row]
                != _checksum([data[view, row] for data in self._maps.values()])
            ]
            for view, row in damaged:
                self._done[view, row] = 0
        return len(damaged)

    def flush(self) -> None:
        for data in (*self._maps.values(), self._crc, self._done):
            data.flush()

    def _create(self, header: dict[str, Any]) -> None:
        for name, kind in _layout(self.arrays).items():
            path = self.folder / name
            path.unlink(missing_ok=True)  # of one that was killed here
            with path.open('xb') as file:
                if size := _bytes(kind) * self.num_views * self.num_rows:
                    # Reserved now: a full disk would otherwise be a SIGBUS
                    # in the middle of the training.
                    os.posix_fallocate(file.fileno(), 0, size)
        with replacing(self.folder / _HEADER, 'w') as file:
            json.dump(header, file, indent=1)

    def _open(self, name: str) -> np.memmap:
        path, kind = self.folder / name, _layout(self.arrays)[name]
        found = path.stat().st_size if path.is_file() else 0
        size = _bytes(kind) * self.num_views * self.num_rows
        if found != size:
            raise UserError(
                f'teacher cache file {path} is truncated: {found} bytes in place of '
                f'{size}; delete its folder, it fills again'
            )
        shape = self.num_views, self.num_rows, *kind[0]
        return np.memmap(path, kind[1], 'r+', shape=shape)


def _layout(arrays: Arrays) -> Arrays:
    """The same of the files, marks and checksums among them."""
    marks = {_DONE: ((), 'uint8'), _CRC: ((), 'uint32')}
    return {f'{name}.bin': kind for name, kind in arrays.items()} | marks


def _bytes(kind: tuple[tuple[int, ...], str]) -> int:
    return math.prod(kind[0]) * np.dtype(kind[1]).itemsize


def _checksum(values: list[np.ndarray]) -> int:
    crc = 0
    for value in values:
        crc = zlib.crc32(np.ascontiguousarray(value).view(np.uint8), crc)
    return crc


def _compare(path: Path, wanted: dict[str, Any]) -> None:
    try:
        found = read_json(path)
        found = found | found['parts']
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f'teacher cache file {path} is damaged; delete its folder, it fills again'
        ) from None
    wanted = wanted | wanted['parts']
    names = sorted(k for k in wanted if k != 'parts' and found.get(k) != wanted[k])
    if names:
        raise UserError(
            f'teacher cache {path.parent} was made with another '
            f'{" and another ".join(n.replace("_", " ") for n in names)}; '
            'give another folder as teacher_cache.dir, or delete this one'
        )
