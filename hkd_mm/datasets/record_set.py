# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Records and splits of a data root, read and checked once a process."""

import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path

from .records import Record, is_skipped
from .split_file import default_split_file, find_split

_KEPT = 2  # data roots whose records stay in memory
_SETTLED = 2_000_000_000  # ns; coarser clocks of file systems are not known
_TABLES = ('', '.csv', '.tab')
_known: dict[Hashable, 'RecordSet'] = {}  # the latest comes last


class RecordSet:
    """Checked records of a data root, with the splits that were read.

    Args:
        records: all images, in their order.
        state: of the folders and tables that they were read from; None where
            nobody else asks for them.
    """

    def __init__(
        self, records: list[Record], state: 'FileState | None' = None
    ) -> None:
        self.records, self.state = records, state
        self._splits: dict[Hashable, tuple[dict, FileState | None]] = {}

    def split(
        self, name: str, split_file: str | None, ratios, seed: int
    ) -> dict:
        """Find the split as :func:`.split_file.find_split` does, once.

        A split file is read and checked again after it has changed.
        """
        given = any(record.split for record in self.records)
        key = (name, split_file, os.getcwd(), str(ratios), seed)
        document, state = self._splits.get(key, (None, None))
        if document is not None and (state is None or state.is_current()):
            return document
        if not given:
            path = split_file or default_split_file(
                name, self.records, ratios, seed
            )
            state = FileState([os.path.abspath(path)])
        document = find_split(self.records, name, split_file, ratios, seed)
        self._splits[key] = document, state
        return document


class FileState:
    """Inode, size and time of files and folders at one moment.

    Args:
        paths: what to look at; it need not exist.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._before = time.time_ns() - _SETTLED
        self._states: dict[str, tuple[int, ...] | None] = {}
        self.add(paths)

    def add(self, paths: Iterable[str]) -> None:
        """Look at further paths as well."""
        for path in paths:
            self._states.setdefault(path, _state(path))

    def is_current(self) -> bool:
        """Whether nothing has changed since, as far as times show.

        What was written a moment before may change once more within a tick of
        the file system's clock: such a state never counts as current.
        """
        return all(
            state is not None
            and state[-1] < self._before
            and _state(path) == state
            for path, state in self._states.items()
        )


def read_once(
    key: Hashable,
    root: Path,
    table: Path | None,
    read: Callable[[], list[Record]],
) -> RecordSet:
    """Records of a data root, read again only after it has changed.

    Images added, removed or renamed change the time of their folder, and a
    table its own: then, and where that happened less than two seconds before
    the last reading, everything is read again. The two data roots used last
    are kept.

    Args:
        key: everything that decides how the data root is read.
        root: the data root.
        table: the table that was asked for, if any.
        read: reads and checks the records.
    """
    known = _known.pop(key, None)
    if known is None or not known.state.is_current():
        state = FileState(_watched(root, table))
        records = read()
        state.add({os.path.dirname(record.path) for record in records})
        known = RecordSet(records, state)
    _known[key] = known
    while len(_known) > _KEPT:
        del _known[next(iter(_known))]
    return known


def _watched(root: Path, table: Path | None) -> Iterator[str]:
    """Folders and tables whose change may change the records."""
    if table is not None:
        yield str(table)
    # Tables are looked for in the data root and in its folders.
    for folder in [str(root), *(e.path for e in _entries(root) if e.is_dir())]:
        yield folder
        for entry in _entries(folder):
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in _TABLES and entry.is_file():
                yield entry.path
    # The images of a table are looked for in `images` alone, if it is there.
    named = table is not None or (root / 'annotations.csv').exists()
    images = root / 'images'
    seen, waiting = set(), [images if named and images.is_dir() else root]
    while waiting:
        folder = os.fspath(waiting.pop())
        yield folder
        place = os.path.realpath(folder)
        if place not in seen:
            seen.add(place)
            waiting += [
                entry.path
                for entry in _entries(folder)
                if not is_skipped(entry.name) and entry.is_dir()
            ]


def _entries(folder: str | Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # whoever reads the images has met it as well
        return []


def _state(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
