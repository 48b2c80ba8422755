# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The files of a store while it is being built."""

import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from .checks import CRC, DONE, HEADER, PIXELS, ROWS, wrong_rows

_CRC_BYTES = 4


def sha256(content: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


class Parts:
    """Pixels, checksums and marks of an unfinished store.

    Pixels are written with ``pwrite``: a full disk is then an ``OSError``,
    where a memory map would kill the process.

    Args:
        folder: of the store.
        count: images that it is to hold.
        row_bytes: of one image.
    """

    def __init__(self, folder: Path, count: int, row_bytes: int) -> None:
        self.row_bytes = row_bytes
        self._sizes = {
            PIXELS: count * row_bytes,
            CRC: count * _CRC_BYTES,
            DONE: count,
        }
        self._handles = {}
        for name, size in self._sizes.items():
            handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
            self._handles[name] = handle
            if os.fstat(handle).st_size != size:
                os.ftruncate(handle, size)

    @cached_property
    def _pixels(self) -> np.ndarray:
        return self._map(PIXELS, np.uint8).reshape(-1, self.row_bytes)

    @cached_property
    def crc(self) -> np.ndarray:
        """Checksums (N,) uint32."""
        return self._map(CRC, '<u4')

    @cached_property
    def _done(self) -> np.ndarray:
        return self._map(DONE, np.uint8)

    def _map(self, name: str, kind) -> np.ndarray:
        shared = mmap.mmap(
            self._handles[name], self._sizes[name], prot=mmap.PROT_READ
        )
        return np.frombuffer(shared, kind)

    def __enter__(self) -> 'Parts':
        return self

    def __exit__(self, *unused) -> None:
        for handle in self._handles.values():
            os.close(handle)

    def put(self, row: int, pixels: bytes) -> None:
        """Write one image, then its checksum, then its mark."""
        for name, content in (
            (PIXELS, pixels),
            (CRC, zlib.crc32(pixels).to_bytes(_CRC_BYTES, 'little')),
            (DONE, b'\1'),
        ):
            self._write(name, content, row * len(content))

    def _write(self, name: str, content: bytes, offset: int) -> None:
        while content:
            count = os.pwrite(self._handles[name], content, offset)
            content, offset = content[count:], offset + count

    def missing(self) -> list[int]:
        """Rows that are not done."""
        return np.flatnonzero(self._done == 0).tolist()

    def wrong(self, rows: Sequence[int] | None = None) -> list[int]:
        """Rows that do not read back as they were written."""
        rows = np.arange(len(self.crc)) if rows is None else rows
        return wrong_rows(self._pixels, self.crc, rows)

    def verified(self) -> int:
        """Take away marks that a power failure left without their pixels.

        Returns:
            How many images are done.
        """
        done = np.flatnonzero(self._done)
        wrong = self.wrong(done)
        for row in wrong:
            self._write(DONE, b'\0', row)
        return len(done) - len(wrong)

    def copy(
        self, other: Path, rule: dict, columns: dict[str, Sequence]
    ) -> int:
        """Take images of files that have not changed from another store.

        Args:
            other: folder of that store.
            rule: of the plan of this one.
            columns: of that plan, by which files are known again.

        Returns:
            How many; none where the other is of another kind or damaged.
        """
        try:
            theirs = json.loads((other / ROWS).read_text())
            crc = np.fromfile(other / CRC, '<u4')
            marks = (
                np.ones(len(crc), np.uint8)
                if (other / HEADER).exists()
                else np.fromfile(other / DONE, np.uint8)
            )
            if theirs['rule'] != rule:
                return 0
            rows = zip(*(theirs[name] for name in columns))
            known = {file: row for row, file in enumerate(rows) if marks[row]}
            pixels = np.memmap(other / PIXELS, np.uint8, 'r')
            pixels = pixels.reshape(len(crc), self.row_bytes)
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return 0
        copied = 0
        for row in self.missing():
            file = tuple(column[row] for column in columns.values())
            source = known.get(file)
            if source is None or wrong_rows(pixels, crc, [source]):
                continue
            self.put(row, pixels[source].tobytes())
            copied += 1
        return copied

    def sync(self) -> None:
        """Have everything on the disk."""
        for handle in self._handles.values():
            os.fsync(handle)


def put_row(folder: Path, count: int, row: int, content: bytes) -> None:
    """Write one row of a store of ``count`` rows."""
    with Parts(folder, count, len(content)) as parts:
        parts.put(row, content)
