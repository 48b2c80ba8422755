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
from hkd_mm.io.locks import locked

FORMAT = 1
_HEADER, _DONE, _CRC = 'header.json', 'done.u8', 'crc.u32'
Arrays = dict[str, tuple[tuple[int, ...], str]]  # name -> (row shape, dtype)


class CacheFile:
    """Entries (view, row) of several arrays, written once, read ever after.

    A folder holds ``header.json``, one file an array ``[num_views, num_rows,
    ...]``, a CRC-32 an entry and a byte an entry that marks it as complete.
    Values are written first, then their checksums, then the marks, so that a
    process killed at any moment leaves only complete entries marked. After a
    power cut, which may keep a mark and lose its values, :meth:`verify`
    removes the mark. Processes may write at the same time, also the same
    entries: the first one stays.

    Args:
        folder: made if it is missing.
        parts: name -> text of everything that the entries depend on; all of
            it must agree with an existing folder.
        arrays: name -> (shape of a row, numpy dtype).
        num_views: views of an image.
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
            if not (self.folder / _HEADER).is_file():
                self._create(header)
        _compare(self.folder / _HEADER, header)
        self._maps = {
            name: self._open(f'{name}.bin', shape, dtype)
            for name, (shape, dtype) in arrays.items()
        }
        self._done = self._open(_DONE, (), 'uint8')
        self._crc = self._open(_CRC, (), 'uint32')

    @staticmethod
    def size_of(arrays: Arrays, num_views: int, num_rows: int) -> int:
        """Bytes on the disk."""
        row = sum(
            math.prod(shape) * np.dtype(dtype).itemsize
            for shape, dtype in arrays.values()
        )
        return num_views * num_rows * (row + 5)

    @staticmethod
    def exists(folder: str | os.PathLike) -> bool:
        """Whether a folder holds a cache, whose disk space is taken."""
        return (Path(folder) / _HEADER).is_file()

    def is_complete(self, view: int, rows: np.ndarray) -> bool:
        """Whether all these rows (B,) of a view are stored."""
        return bool(self._done[view, rows].all())

    def count(self) -> int:
        """Number of entries that are stored."""
        return int(self._done.sum(dtype=np.int64))

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
        """Write everything to the disk."""
        for data in (*self._maps.values(), self._crc, self._done):
            data.flush()

    def _create(self, header: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, size in self._sizes().items():
            with (self.folder / name).open('ab') as file:
                if size:
                    # Reserved now: a full disk would otherwise be a SIGBUS
                    # in the middle of the training.
                    os.posix_fallocate(file.fileno(), 0, size)
        part = self.folder / f'{_HEADER}.{os.getpid()}.part'
        part.write_text(json.dumps(header, indent=1))
        os.replace(part, self.folder / _HEADER)

    def _sizes(self) -> dict[str, int]:
        entries = self.num_views * self.num_rows
        sizes = {_DONE: entries, _CRC: 4 * entries}
        for name, (shape, dtype) in self.arrays.items():
            row = math.prod(shape) * np.dtype(dtype).itemsize
            sizes[f'{name}.bin'] = entries * row
        return sizes

    def _open(self, name: str, shape: tuple[int, ...], dtype: str) -> np.memmap:
        path = self.folder / name
        size = path.stat().st_size if path.is_file() else 0
        if size != self._sizes()[name]:
            raise UserError(
                f'teacher cache file {path} is truncated: {size} bytes in '
                f'place of {self._sizes()[name]}; delete its folder, it '
                'fills again'
            )
        return np.memmap(
            path, dtype, 'r+', shape=(self.num_views, self.num_rows, *shape)
        )


def _checksum(values: list[np.ndarray]) -> int:
    crc = 0
    for value in values:
        crc = zlib.crc32(np.ascontiguousarray(value).view(np.uint8), crc)
    return crc


def _compare(path: Path, wanted: dict[str, Any]) -> None:
    try:
        found = json.loads(path.read_text())
        parts = found['parts']
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f'teacher cache file {path} is damaged; delete its folder, it fills again'
        ) from None
    found, wanted = found | parts, wanted | wanted['parts']
    names = [
        name
        for name in sorted(wanted.keys() - {'parts'})
        if found.get(name) != wanted[name]
    ]
    if names:
        raise UserError(
            f'teacher cache {path.parent} was made with another '
            f'{" and another ".join(n.replace("_", " ") for n in names)}; '
            'give another folder as teacher_cache.dir, or delete this one'
        )
