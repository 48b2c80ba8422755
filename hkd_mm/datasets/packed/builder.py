# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Build a packed store once, on all cores, and resume after interruptions."""

import errno
import glob
import json
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hkd_mm.datasets.packed.plan import Plan
from hkd_mm.datasets.packed.store import (
    CRC,
    FORMAT,
    HEADER,
    PIXELS,
    ROWS,
    seal,
    sha256,
    wrong_rows,
)
from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import AtomicBackend
from hkd_mm.io.files import printable, read_record
from hkd_mm.io.locks import locked
from hkd_mm.io.progress import parallel_map

DONE = 'done.bin'
_SPARE = 2**24  # bytes that must stay free on the disk


class NoRoomError(UserError):
    """The disk has no room for the packed images."""


def ensure_store(plan: Plan, store_dir: str | os.PathLike, workers: int = 0) -> Path:
    """Return the folder of the finished store of a plan; build it if missing.

    The name of the folder carries a hash of the rule and of the names, sizes
    and times of the source files. An image is on disk before its checksum, and that
    before its mark, so that a killed build resumes. Of several processes one builds,
    the others wait; ``workers`` of its processes decode, 0 takes all cores.

    Raises:
        UserError: an image cannot be read.
        NoRoomError: the disk is full.
    """
    store_dir = Path(os.path.expanduser(store_dir))
    folder = store_dir / f'{plan.family}_{plan.key[:8]}'
    if (folder / HEADER).exists():
        return folder
    waiting = f'packed store: another process builds {folder}; waiting'
    try:
        with locked(folder, waiting=waiting):
            if not (folder / HEADER).exists():
                _build(plan, folder, workers)
    except OSError as error:
        raise _explained(error, plan, folder) from error
    return folder


def _build(plan: Plan, folder: Path, workers: int) -> None:
    start = time.perf_counter()
    size = len(plan.ids) * plan.row_bytes
    for other in folder.parent.glob(glob.escape(f'{plan.family}_') + '[0-9a-f]' * 8):
        if other != folder and read_record(other / ROWS).get('root') == plan.root:
            _print(
                f'THE IMAGES IN {plan.root} HAVE CHANGED since {other} was '
                'built (it may be removed now)'
            )
    _print(
        f'building {folder} from {printable(plan.root)}: {len(plan.ids)} images of '
        f'{plan.side} x {plan.side}, {size / 1e6:.0f} MB'
        + (', hairs removed' if plan.hair_removal else '')
    )
    _write_rows(plan, folder)
    used = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    if shutil.disk_usage(folder).free < size - used + _SPARE:
        raise OSError(errno.ENOSPC, 'too little room')
    with PartialStore(folder, len(plan.ids), plan.row_bytes) as store:
        if kept := store.verified():
            _print(f'{kept} images were packed before')
        pack = partial(_pack_row, folder, len(plan.ids), plan.reader)
        jobs = [(row, plan.sources(row)) for row in store.missing()]
        found = parallel_map(pack, jobs, f'packing {len(jobs)} images', workers)
        if failed := [message for message in found if message]:
            more = f' ({len(failed)} such files in all)' if failed[1:] else ''
            raise UserError(failed[0] + more)
        for row in store.wrong():
            raise UserError(
                f'packed store: image {plan.ids[row]} in {folder} reads back '
                'otherwise than it was written; the disk is faulty'
            )
        store.sync()
        crc = store.crc.tobytes()
    _write_header(plan, folder, crc)
    _print(f'{folder} is ready after {time.perf_counter() - start:.1f} s')


def _pack_row(
    folder: Path, count: int, read: Callable[[Any], bytes], job: tuple[int, Any]
) -> str | None:
    """Pack one (row, sources); a message when a file cannot be used."""
    row, sources = job
    try:
        content = read(sources)
    except UserError as error:
        return str(error)
    with PartialStore(folder, count, len(content)) as store:
        store.put(row, content)
    return None


class PartialStore:
    """Pixels, checksums and marks of an incomplete store.

    Pixels are written with ``pwrite``: a full disk is then an ``OSError``,
    where a memory map would kill the process.
    """

    def __init__(self, folder: Path, count: int, row_bytes: int) -> None:
        self.folder, self.count, self.row_bytes = folder, count, row_bytes
        self._handles = {}
        for name, each in ((PIXELS, row_bytes), (CRC, 4), (DONE, 1)):
            handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
            self._handles[name] = handle
            if os.fstat(handle).st_size != count * each:
                os.ftruncate(handle, count * each)

    def __enter__(self) -> 'PartialStore':
        return self

    def __exit__(self, *error) -> None:
        for handle in self._handles.values():
            os.close(handle)

    def put(self, row: int, pixels: bytes) -> None:
        """Write one image, then its checksum, then its mark."""
        self._write(PIXELS, pixels, row * len(pixels))
        self._write(CRC, zlib.crc32(pixels).to_bytes(4, 'little'), row * 4)
        self._write(DONE, b'\1', row)

    def _write(self, name: str, content: bytes, offset: int) -> None:
        while content:
            count = os.pwrite(self._handles[name], content, offset)
            content, offset = content[count:], offset + count

    @property
    def crc(self) -> np.ndarray:
        return np.memmap(self.folder / CRC, '<u4', 'r')

    @property
    def _done(self) -> np.ndarray:
        return np.memmap(self.folder / DONE, np.uint8, 'r')

    def missing(self) -> list[int]:
        return np.flatnonzero(self._done == 0).tolist()

    def wrong(self, rows: np.ndarray | None = None) -> list[int]:
        """Rows that do not read back as they were written."""
        rows = np.arange(self.count) if rows is None else rows
        shape = (self.count, self.row_bytes)
        pixels = np.memmap(self.folder / PIXELS, np.uint8, 'r', shape=shape)
        return wrong_rows(pixels, self.crc, rows)

    def verified(self) -> int:
        """Remove marks that a power failure left without pixels; count the others."""
        done = np.flatnonzero(self._done)
        wrong = self.wrong(done)
        for row in wrong:
            self._write(DONE, b'\0', row)
        return len(done) - len(wrong)

    def sync(self) -> None:
        for handle in self._handles.values():
            os.fsync(handle)


def _write_rows(plan: Plan, folder: Path) -> None:
    """Record what is being built, unless the folder says so already."""
    text = json.dumps(plan.as_dict())
    path = folder / ROWS
    if path.is_file() and path.read_text(errors='replace') == text:
        return
    # Cut off by a power failure, or a foreign folder: nothing of it counts.
    (folder / DONE).unlink(missing_ok=True)
    AtomicBackend().put_text(text, path)


def _write_header(plan: Plan, folder: Path, crc: bytes) -> None:
    content = [plan.rule, plan.ids, sha256(crc)]
    header = dict(
        format=FORMAT,
        **plan.rule,
        key=plan.key,
        root=printable(plan.root),
        count=len(plan.ids),
        rows_sha256=sha256((folder / ROWS).read_bytes()),
        crc_sha256=sha256(crc),
        hash=sha256(json.dumps(content, sort_keys=True).encode()),
    )
    AtomicBackend().put_text(json.dumps(seal(header), indent=1) + '\n', folder / HEADER)
    (folder / DONE).unlink(missing_ok=True)


def _explained(error: OSError, plan: Plan, folder: Path) -> Exception:
    remedy = 'another place with --cfg-options packed.store_dir=DIR'
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return UserError(f'packed store: {folder.parent} is a file; give {remedy}')
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    size = len(plan.ids) * plan.row_bytes
    return NoRoomError(
        f'packed store: the disk of {folder} is full, {size / 1e6:.0f} MB are needed; '
        f'make room, or give {remedy}; the build goes on where it stopped'
    )


def _print(line: str) -> None:
    print(f'packed store: {line}', file=sys.stderr, flush=True)
