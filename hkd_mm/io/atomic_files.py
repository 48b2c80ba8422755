# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Files that are either whole or not there."""

import logging
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log

from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load

_PART = '.part'


@register_backend('atomic', force=True)
class AtomicBackend(LocalBackend):
    """``LocalBackend`` whose ``put`` never leaves half a file behind.

    The bytes go to a hidden file in the same folder, reach the disk, and
    only then take the final name. A process killed at any moment leaves the
    old file, or the new one, and at worst a ``.<name>.<pid>.part`` beside it.
    Used as ``CheckpointHook(backend_args=dict(backend='atomic'))``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; the folder is made where it is missing.

        Args:
            obj: content of the file.
            filepath: final name; a symbolic link is followed.

        Raises:
            OSError: as of writing a file; the old file is then untouched.
        """
        path = Path(os.path.realpath(filepath))
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f'.{path.name}.{os.getpid()}{_PART}')
        try:
            with open(aside, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Write text; else as :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where folders can be synced."""
    if os.name != 'posix':
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_parts(folder: str | Path) -> list[str]:
    """Delete what killed writers left in a folder.

    Args:
        folder: where checkpoints lie; nobody may be writing to it.

    Returns:
        Names of the deleted files.
    """
    parts = sorted(Path(folder).glob(f'.*{_PART}'))
    for part in parts:
        part.unlink()
    return [part.name for part in parts]


def what_is_wrong(path: str | Path) -> str | None:
    """Hold a checkpoint file against its own checksums and the safe loader.

    torch does not check the CRC of what it reads, so that a flipped bit in a
    weight would go unnoticed; here every entry of the archive is checked.

    Args:
        path: a ``.pth`` file.

    Returns:
        What is wrong with it, in a few words, or None.
    """
    path = Path(path)
    if not path.is_file():
        return 'it does not exist'
    if path.stat().st_size == 0:
        return 'it is empty'
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (
        zipfile.BadZipFile,
        OSError,
        EOFError,
        NotImplementedError,
        ValueError,
    ) as error:
        return f'it is cut off or no checkpoint ({error})'
    if damaged is not None:
        return f'the checksum of its part {damaged} is wrong'
    try:
        safe_load(path)
    except UserError as error:
        return str(error)
    return None


def latest_intact_checkpoint(work_dir: str | Path) -> str | None:
    """The checkpoint to resume a run from.

    It is the one that ``last_checkpoint`` names, if it is intact, else the
    newest older ``epoch_*.pth`` (``iter_*.pth``) that is; where nothing is
    named, the newest intact one. Each file passed over is told as a warning.

    Args:
        work_dir: folder of the run; it may have been moved since.

    Returns:
        Path of the file, None where there is no intact one.
    """
    folder = Path(work_dir)
    saved = {path: _step(path) for path in folder.glob('*.pth')}
    ladder = sorted(
        (path for path, step in saved.items() if step is not None),
        key=lambda path: saved[path],
        reverse=True,
    )
    named = _named_last(folder)
    if named is not None:
        step = _step(named)
        older = [
            path
            for path in ladder
            if path.name != named.name and (step is None or saved[path] < step)
        ]
        ladder = [named, *older]
    for path in ladder:
        wrong = what_is_wrong(path)
        if wrong is None:
            return str(path)
        print_log(
            f'CHECKPOINT {path} IS NOT USED: {wrong}. Falling back to '
            'the one before.',
            logger='current',
            level=logging.WARNING,
        )
    if ladder:
        print_log(
            f'NO INTACT CHECKPOINT IS LEFT IN {folder}: training starts '
            'from the beginning.',
            logger='current',
            level=logging.WARNING,
        )
    return None


def _step(path: Path) -> tuple[int, int] | None:
    """(kind, number) of an epoch or iteration checkpoint; else None."""
    match = re.fullmatch(r'(epoch|iter)_(\d+)\.pth', path.name)
    return match and (match[1] == 'epoch', int(match[2]))


def _named_last(folder: Path) -> Path | None:
    """What ``last_checkpoint`` names; a moved folder is taken into account."""
    pointer = folder / 'last_checkpoint'
    if not pointer.is_file():
        return None
    text = pointer.read_text(errors='replace').strip('\0 \n')
    if not text:  # killed while mmengine wrote it
        return None
    beside = folder / Path(text).name
    return beside if beside.is_file() else Path(text)


_MARK = '.unfinished'


@contextmanager
def mark_incomplete(root: Path, by: str) -> Iterator[None]:
    """Mark a folder until the block has come to its end.

    Whatever ends the block otherwise, a kill included, leaves the mark, and
    data sets refuse the folder.

    Args:
        root: made when missing.
        by: the tool that writes.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / _MARK).write_text(by)
    yield
    (root / _MARK).unlink()


def incomplete_marker(root: Path) -> str | None:
    """The tool that is writing a folder, or left it half made."""
    mark = root / _MARK
    return mark.read_text() if mark.exists() else None
