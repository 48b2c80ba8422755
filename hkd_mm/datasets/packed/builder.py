# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Build a packed store once, on all cores, whatever interrupts it."""

import errno
import json
import os
import shutil
import sys
import time
from pathlib import Path

from hkd_mm.datasets.packed.parts import (
    DONE,
    FORMAT,
    HEADER,
    ROWS,
    Parts,
    seal,
    sha256,
)
from hkd_mm.datasets.packed.plan import Plan
from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import AtomicBackend
from hkd_mm.io.locks import locked

_SPARE = 2**24  # bytes that must stay free on the disk
_FULL = (errno.ENOSPC, errno.EDQUOT)


class NoRoomError(UserError):
    """The disk has no room for the packed images."""


def ensure_store(
    plan: Plan, store_dir: str | os.PathLike, workers: int = 0
) -> Path:
    """The folder of the finished store of a plan; built if need be.

    The name of the folder carries a hash of the rule and of the names, sizes
    and times of the source files, so that changed sources make a new store
    (images that did not change are copied from the old one). An image that is
    done is on disk before its checksum, and that before its mark, so that a
    killed build goes on where it was. Several processes may call it at once:
    one builds, the others wait.

    Args:
        plan: what it holds.
        store_dir: where stores lie.
        workers: processes that decode; 0 takes all cores.

    Raises:
        UserError: an image cannot be read.
        NoRoomError: the disk is full.
    """
    store_dir = Path(os.path.expanduser(store_dir))
    folder = store_dir / f'{plan.family}_{plan.key[:8]}'
    if (folder / HEADER).exists():
        return folder
    try:
        with locked(
            folder,
            waiting=f'packed store: another process builds {folder}; waiting',
        ):
            if not (folder / HEADER).exists():
                _build(plan, folder, workers)
    except OSError as error:
        raise _told(error, plan, folder) from error
    return folder


def _build(plan: Plan, folder: Path, workers: int) -> None:
    clock = time.perf_counter()
    size = len(plan.ids) * plan.row_bytes
    others = _others(plan, folder)
    for other in others:
        if _root(other) == plan.root and (other / HEADER).exists():
            _say(
                f'THE IMAGES IN {plan.root} HAVE CHANGED since {other} was '
                'built (it may be removed now)'
            )
    _say(
        f'building {folder} from {plan.root}: {len(plan.ids)} images of '
        f'{plan.side} x {plan.side}, {size / 1e6:.0f} MB'
        + (', hairs removed' if plan.hair_removal else '')
    )
    _write_rows(plan, folder)
    _check_space(folder, size)
    with Parts(folder, len(plan.ids), plan.row_bytes) as parts:
        kept = parts.verified()
        copied = sum(
            parts.copy(other, plan.rule, plan.file_columns) for other in others
        )
        if kept or copied:
            _say(f'{kept} images were packed before, {copied} are copied')
        _decode_all(plan, folder, parts.missing(), workers)
        for row in parts.wrong():
            raise UserError(
                f'packed store: image {plan.ids[row]} in {folder} reads back '
                'otherwise than it was written; the disk is faulty'
            )
        parts.sync()
        crc = parts.crc.tobytes()
    _write_header(plan, folder, crc)
    _say(f'{folder} is ready after {time.perf_counter() - clock:.1f} s')
    for other in others:
        _remove_unfinished(plan, other)


def _decode_all(
    plan: Plan, folder: Path, rows: list[int], workers: int
) -> None:
    from hkd_mm.io.progress import parallel_map

    failed = parallel_map(
        plan.worker(folder),
        [(row, plan.sources(row)) for row in rows],
        f'packing {len(rows)} images',
        workers,
    )
    failed = [message for message in failed if message]
    if failed:
        more = f' ({len(failed)} such files in all)' if failed[1:] else ''
        raise UserError(failed[0] + more)


def _write_rows(plan: Plan, folder: Path) -> None:
    """Say what is being built; leave it alone where it is said already."""
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
        root=plan.root,
        count=len(plan.ids),
        rows_sha256=sha256((folder / ROWS).read_bytes()),
        crc_sha256=sha256(crc),
        hash=sha256(json.dumps(content, sort_keys=True).encode()),
    )
    AtomicBackend().put_text(
        json.dumps(seal(header), indent=1) + '\n', folder / HEADER
    )
    (folder / DONE).unlink(missing_ok=True)


def _others(plan: Plan, folder: Path) -> list[Path]:
    """Other stores of images of the same name and size."""
    found = folder.parent.glob(f'{plan.family}_' + '[0-9a-f]' * 8)
    return sorted(other for other in found if other != folder)


def _root(folder: Path) -> str | None:
    """The data root that a store, finished or not, was made from."""
    try:
        return json.loads((folder / ROWS).read_text())['root']
    except (OSError, ValueError, KeyError):
        return None


def _remove_unfinished(plan: Plan, other: Path) -> None:
    """Remove what a killed build left of a state that is gone."""
    if _root(other) != plan.root or (other / HEADER).exists():
        return
    with locked(other, wait=False) as held:
        if held and not (other / HEADER).exists():
            shutil.rmtree(other, ignore_errors=True)


def _check_space(folder: Path, size: int) -> None:
    used = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    if shutil.disk_usage(folder).free < size - used + _SPARE:
        raise OSError(errno.ENOSPC, 'too little room')


def _told(error: OSError, plan: Plan, folder: Path) -> Exception:
    way_out = 'another place with --cfg-options packed.store_dir=DIR'
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return UserError(
            f'packed store: {folder.parent} is a file; give {way_out}'
        )
    if error.errno not in _FULL:
        return error
    size = len(plan.ids) * plan.row_bytes
    return NoRoomError(
        f'packed store: the disk of {folder} is full, {size / 1e6:.0f} MB '
        f'are needed; make room, or give {way_out}; the build goes on where '
        'it stopped'
    )


def _say(line: str) -> None:
    print(f'packed store: {line}', file=sys.stderr, flush=True)
