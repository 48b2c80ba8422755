# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""List the files of a public download, unpacked or in zip archives."""

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from hkd_mm.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One file of a download.

    Args:
        name: path inside its folder or archive, with forward slashes.
        size: bytes.
        path: of the unpacked file, None inside an archive.
        archive: the open archive that holds it, else None.
    """

    name: PurePosixPath
    size: int
    path: Path | None = None
    archive: zipfile.ZipFile | None = field(default=None, compare=False)

    def open(self) -> IO[bytes]:
        """The content as a binary stream."""
        if self.path is not None:
            return open(self.path, 'rb')
        return self.archive.open(str(self.name))


def list_downloads(sources: list[str], stack: ExitStack) -> list[Entry]:
    """List all files of folders, zip archives and archives inside them.

    The archives stay open as long as the stack.

    Returns:
        Entries in a fixed order, without hidden files.

    Raises:
        UserError: a source is missing, or an archive is damaged.
    """
    entries = []
    for source in sources:
        path = Path(os.path.expanduser(source))
        if not path.exists():
            raise UserError(f'download {source} does not exist')
        alone = path.is_file()
        for file in [path] if alone else sorted(path.rglob('*')):
            base = path.parent if alone else path
            name = PurePosixPath(file.relative_to(base).as_posix())
            if not file.is_file():
                continue
            if file.suffix.lower() == '.zip' or zipfile.is_zipfile(file):
                entries += _read_archive(file, str(file), stack)
            else:
                entries.append(Entry(name, file.stat().st_size, path=file))
    hidden = ('.', '__MACOSX')
    return [
        entry
        for entry in entries
        if not any(part.startswith(hidden) for part in entry.name.parts)
    ]


def place(entry: Entry, target: Path) -> bool:
    """Put a file into place by hard link, or by copy where that fails.

    Returns:
        Whether it was put there now; an existing file of that size is kept.

    Raises:
        UserError: the content cannot be read.
    """
    if target.exists() and target.stat().st_size == entry.size:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f'.{target.name}.{os.getpid()}')
    try:
        if entry.path is None:
            with entry.open() as source, open(aside, 'wb') as copy:
                shutil.copyfileobj(source, copy)
        else:
            try:
                os.link(entry.path.resolve(), aside)
            except OSError:  # another disk, or no links there
                shutil.copyfile(entry.path, aside)
    except (zipfile.BadZipFile, RuntimeError, EOFError) as error:
        aside.unlink(missing_ok=True)
        raise UserError(
            f'{entry.name} in {entry.archive.filename} cannot be unpacked '
            f'({error}); download the archive again'
        ) from None
    os.replace(aside, target)
    return True


def _read_archive(file, label: str, stack: ExitStack) -> Iterator[Entry]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f'archive {label} is damaged ({error}); download it again'
        ) from None
    for info in sorted(archive.infolist(), key=lambda info: info.filename):
        if info.is_dir():
            continue
        if info.filename.lower().endswith('.zip'):
            inner = stack.enter_context(archive.open(info))
            yield from _read_archive(inner, f'{label}:{info.filename}', stack)
        else:
            yield Entry(PurePosixPath(info.filename), info.file_size, archive=archive)
