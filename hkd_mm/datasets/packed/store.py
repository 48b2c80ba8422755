# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One memory map of decoded images, checked when it is opened.

A store is a folder::

    pixels.bin   (N, side, side, 3) uint8, RGB; where there are masks, rows
                 of an image and its mask, see :mod:`..masks.packed_masks`
    crc32.bin    (N,) uint32, little endian, of each image's bytes
    rows.json    sample ids, source files, their sizes and times; the rule
    header.json  written last: hashes of all of the above
    done.bin     (N,) uint8, while it is being built
"""

import hashlib
import json
import os
import weakref
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import numpy as np
import torch
from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from hkd_mm.datasets.packed.plan import MAX_SIDE, Plan, row_bytes
from hkd_mm.errors import UserError
from hkd_mm.io.files import read_bytes, read_json
from hkd_mm.io.schema import validate

FORMAT = 'hkd_mm packed images'
PIXELS, CRC, ROWS, HEADER = 'pixels.bin', 'crc32.bin', 'rows.json', 'header.json'
CHECKS = ('all', 'sample')
_SAMPLE = 256  # images that the check "sample" reads
_BLOCK = 64  # images a thread checks at a time
_REMEDY = '; remove {} and it is built again'
_opened: 'weakref.WeakValueDictionary' = weakref.WeakValueDictionary()


class MaskRule(TypedDict):
    """How masks and their images are stored."""

    version: int
    channels: Literal[1, 3]
    bits: Literal[8, 16]
    classes: Annotated[int, Field(ge=2)]


class Header(TypedDict):
    """What ``header.json`` holds."""

    format: Literal[FORMAT]
    version: int
    side: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    interpolation: str
    hair_removal: NotRequired[dict[str, float]]
    masks: NotRequired[MaskRule]
    key: str
    root: str
    count: Annotated[int, Field(ge=1)]
    rows_sha256: str
    crc_sha256: str
    hash: str


class Rows(TypedDict):
    """What is read of ``rows.json``."""

    ids: list[str]


class PackedStore:
    """Read access to a finished store.

    Args:
        check: ``all`` compares every image with its checksum (about a second for 1 GB,
            which is then in the page cache, where training wants it), ``sample`` 256 of
            them; sizes and the hashes of the other files are always checked.
        in_memory: read everything into memory of this process instead of
            mapping the file.
        plan: required contents; None accepts any.

    Raises:
        UserError: foreign, truncated or damaged; names the file.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        check: str = 'all',
        in_memory: bool = False,
        plan: Plan | None = None,
    ) -> None:
        if check not in CHECKS:
            raise UserError(
                f'verify={check!r} of a packed store must be one of {", ".join(CHECKS)}'
            )
        self.folder, self.in_memory = Path(folder), in_memory
        self.header = _read_header(self.folder / HEADER)
        if plan is not None and self.header['key'] != plan.key:
            why = f'it is foreign, made from other images than those of {plan.root}'
            _refuse(self.folder / HEADER, why)
        _read_hashed(self.folder / ROWS, self.header['rows_sha256'])
        self.ids = read_ids(folder)
        crc = _read_hashed(self.folder / CRC, self.header['crc_sha256'])
        self.crc = np.frombuffer(crc[: len(crc) // 4 * 4], '<u4')
        if not len(self.ids) == len(crc) / 4 == self.header['count']:
            _refuse(self.folder / HEADER, 'it counts other images than its files hold')
        self._map()
        count = len(self.crc)
        rows = np.arange(count)
        if check == 'sample' and count > _SAMPLE:
            rows = np.linspace(0, count - 1, _SAMPLE).astype(int)
        wrong = wrong_rows(self.pixels.numpy(), self.crc, rows)
        if wrong:
            others = f', and of {len(wrong) - 1} others' if wrong[1:] else ''
            first = f'image {self.ids[wrong[0]]} (row {wrong[0]})'
            why = f'the checksum of {first} is wrong{others}'
            _refuse(self.folder / PIXELS, why)

    def _map(self) -> None:
        path = self.folder / PIXELS
        shape = (self.header['count'], row_bytes(self.header))
        size = path.stat().st_size if path.is_file() else 0
        if size != shape[0] * shape[1]:
            expected = shape[0] * shape[1]
            _refuse(path, f'it is truncated or foreign, {size} bytes, not {expected}')
        if self.in_memory:
            pixels = np.fromfile(path, np.uint8).reshape(shape)
        else:  # copy on write: torch dislikes what cannot be written
            pixels = np.memmap(path, np.uint8, 'c', shape=shape)
        self.pixels = torch.from_numpy(pixels)

    @property
    def hash(self) -> str:
        """SHA-256 of the ids and pixels, whatever the files' times are."""
        return self.header['hash']

    @property
    def side(self) -> int:
        return self.header['side']

    def __len__(self) -> int:
        return len(self.crc)

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Images (B, side, side, 3) uint8, RGB, of rows (B,) int64, as a copy."""
        found = torch.from_numpy(self.gather_bytes(rows))
        return found.view(len(rows), self.side, self.side, 3)

    def gather_bytes(self, rows: torch.Tensor, part: slice = slice(None)) -> np.ndarray:
        """A slice of some rows, (B, bytes) uint8, memory of its own."""
        # NumPy copies rows on one core at the speed of the memory; torch
        # would wake all threads for it, which costs more where cores are busy.
        return self.pixels.numpy()[:, part][rows.numpy()]

    def __getstate__(self) -> dict:
        # A spawned worker maps the file again; it has been checked.
        return {k: v for k, v in vars(self).items() if k != 'pixels'}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._map()


def open_store(
    folder: Path, check: str, in_memory: bool, plan: Plan | None = None
) -> PackedStore:
    """Open a store once a process, and again after any of its files changed."""
    found = [folder / name for name in (PIXELS, CRC, ROWS, HEADER)]
    stats = [path.stat() for path in found if path.exists()]
    state = tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)
    key = (os.path.realpath(folder), check, in_memory, state)
    store = _opened.get(key)
    if store is None:
        _opened[key] = store = PackedStore(folder, check, in_memory, plan)
    return store


def read_ids(folder: str | os.PathLike) -> list[str]:
    """Sample ids of a store that has been opened; item i names row i."""
    path = Path(folder) / ROWS
    found = _json(path)
    rows = dict(ids=found.get('ids')) if isinstance(found, dict) else found
    return validate(Rows, rows, f'packed store: {path}', _REMEDY.format(folder))['ids']


def sha256(content: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


def seal(header: dict) -> dict:
    """The header with the hash of everything in it."""
    text = json.dumps(header, sort_keys=True)
    return dict(header, header_hash=sha256(text.encode()))


def wrong_rows(pixels: np.ndarray, crc: np.ndarray, rows: Iterable[int]) -> list[int]:
    """Those of some rows of (N, bytes) uint8 that do not match their (N,) checksum."""
    rows = np.asarray(rows)

    def check(part: np.ndarray) -> list[int]:
        return [int(r) for r in part if zlib.crc32(pixels[r]) != crc[r]]

    parts = np.array_split(rows, max(1, len(rows) // _BLOCK))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [row for found in pool.map(check, parts) for row in found]


def _read_header(path: Path) -> Header:
    header = _json(path)
    stated = header.pop('header_hash', None) if isinstance(header, dict) else None
    if stated is None or header.get('format') != FORMAT:
        _refuse(path, 'it is damaged or foreign, no header of a packed store')
    if seal(header)['header_hash'] != stated:
        _refuse(path, 'it is damaged: its hash is wrong')
    remedy = _REMEDY.format(path.parent)
    return validate(Header, header, f'packed store: {path}', remedy)


def _json(path: Path) -> object:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        _refuse(path, f'it cannot be read ({error})')


def _read_hashed(path: Path, expected: str) -> bytes:
    try:
        content = read_bytes(path)
    except OSError as error:
        _refuse(path, f'it cannot be read ({error.strerror})')
    if sha256(content) != expected:
        _refuse(path, 'it is truncated or damaged: its hash is wrong')
    return content


def _refuse(path: Path, reason: str) -> NoReturn:
    raise UserError(f'packed store: {path}: {reason}{_REMEDY.format(path.parent)}')
