# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Write files whole or not at all, and mark incomplete folders."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from hkd_mm.io.files import replacing

_MARK = '.unfinished'


@register_backend('atomic', force=True)
class AtomicBackend(LocalBackend):
    """``LocalBackend`` whose ``put`` never leaves half a file behind.

    A process killed at any moment leaves the old file, or the new one, and at worst a
    ``.<name>.<pid>.part`` beside it. Used as
    ``CheckpointHook(backend_args=dict(backend='atomic'))``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; symbolic links are followed, a folder is made.

        Raises:
            OSError: as of writing a file; the old file is then untouched.
        """
        path = Path(os.path.realpath(filepath))
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(obj)
        if os.name == 'posix':  # a rename must survive a power failure
            handle = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        self.put(obj.encode(encoding), filepath)


def remove_parts(folder: str | Path) -> list[str]:
    """Delete the files of killed writers in a folder; return their names.

    No other process may be writing to it.
    """
    parts = sorted(Path(folder).glob('.*.part'))
    for part in parts:
        part.unlink()
    return [part.name for part in parts]


@contextmanager
def mark_incomplete(root: Path, by: str) -> Iterator[None]:
    """Mark a folder as incomplete until the block has succeeded.

    An error or a kill leaves the mark with the name of the tool, and data
    sets refuse the folder.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / _MARK).write_text(by)
    yield
    (root / _MARK).unlink()


def incomplete_marker(root: Path) -> str | None:
    """The tool that is writing a folder or left it incomplete, or None."""
    mark = root / _MARK
    return mark.read_text() if mark.exists() else None
