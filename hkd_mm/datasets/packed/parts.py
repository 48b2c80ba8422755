# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Files of a store while it is built, and their checksums."""

import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np

from hkd_mm.datasets.load_skin_image import read_image
from hkd_mm.datasets.packed.hair_removal import remove_hair_for
from hkd_mm.errors import UserError

FORMAT = 'hkd_mm packed images'
PIXELS, CRC, ROWS, HEADER, DONE = (
    'pixels.bin',
    'crc32.bin',
    'rows.json',
    'header.json',
    'done.bin',
)
_BLOCK = 64  # images a thread checks at a time


def seal(header: dict) -> dict:
    """The header with the hash of everything in it."""
    text = json.dumps(header, sort_keys=True)
    return dict(header, header_hash=hashlib.sha256(text.encode()).hexdigest())


def read_header(folder: Path) -> dict:
    """The header of a store.

    Raises:
        UserError: missing, damaged, or of another kind or version.
    """
    path = folder / HEADER
    try:
        header = json.loads(path.read_bytes())
        stated = header.pop('header_hash')
        kind = header['format']
    except OSError as error:
        refuse(path, f'it cannot be read ({error.strerror})')
    except (ValueError, KeyError, AttributeError):
        refuse(path, 'it is damaged or foreign, no header of a packed store')
    if kind != FORMAT or seal(header)['header_hash'] != stated:
        refuse(path, 'it is damaged: its hash is wrong')
    return header


def wrong_rows(
    pixels: np.ndarray, crc: np.ndarray, rows: Iterable[int]
) -> list[int]:
    """Rows whose bytes do not have the checksum they should.

    Args:
        pixels: (N, bytes) uint8.
        crc: (N,) uint32.
        rows: which of them to look at.

    Returns:
        The wrong ones, in the order of ``rows``.
    """
    rows = np.asarray(rows)

    def look(part: np.ndarray) -> list[int]:
        return [int(r) for r in part if zlib.crc32(pixels[r]) != crc[r]]

    parts = np.array_split(rows, max(1, len(rows) // _BLOCK))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [row for found in pool.map(look, parts) for row in found]


def refuse(path: Path, reason: str) -> NoReturn:
    """Raise the one line about a file that is not what it should be."""
    raise UserError(
        f'packed store: {path}: {reason}; remove {path.parent} and it is '
        'built anew'
    )


def check_size(path: Path, expected: int) -> None:
    """Refuse a file of another size."""
    size = path.stat().st_size if path.is_file() else 0
    if size != expected:
        refuse(
            path,
            f'it is truncated or foreign, {size} bytes instead of {expected}',
        )


def read_hashed(folder: Path, name: str, expected: str) -> bytes:
    """A small file whole, if its SHA-256 is the expected one."""
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        refuse(path, f'it cannot be read ({error.strerror})')
    if hashlib.sha256(content).hexdigest() != expected:
        refuse(path, 'it is truncated or damaged: its hash is wrong')
    return content


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


def pack_image(
    path: str,
    side: int,
    interpolation: str,
    hair_removal: dict[str, float] | None = None,
) -> np.ndarray:
    """Decode and resize one photograph as the stock pipeline does.

    ``LoadSkinImage`` followed by ``Resize(scale=(side, side),
    interpolation=interpolation)``, bit for bit, in RGB order; hairs, if they
    are to go, go before the resize.

    Args:
        path: the file.
        side: pixels.
        interpolation: a word of ``mmcv.imresize``.
        hair_removal: settings of :func:`.hair_removal.remove_hair`, or None.

    Returns:
        (side, side, 3) uint8.
    """
    from mmcv import imresize

    image = read_image(path)
    if hair_removal is not None:
        image = np.ascontiguousarray(
            remove_hair_for(image[..., ::-1], side, hair_removal)[..., ::-1]
        )
    image = imresize(
        image, (side, side), interpolation=interpolation, backend='cv2'
    )
    return np.ascontiguousarray(image[..., ::-1])


def decode(
    folder: Path,
    count: int,
    side: int,
    interpolation: str,
    hair_removal: dict[str, float] | None,
    job: tuple[int, str],
) -> str | None:
    """Pack one (row, path); a message when the file cannot be read."""
    row, path = job
    try:
        pixels = pack_image(path, side, interpolation, hair_removal)
    except UserError as error:
        return str(error)
    put_row(folder, count, row, pixels.tobytes())
    return None
