# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One image as a record, and the files that records name.

Class folders and annotation tables are read into the same list of
:class:`Record`, so that splits, data sets and tools share one reader.
"""

import csv
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import incomplete_marker
from hkd_mm.io.images import IMAGE_SUFFIXES

SPLITS = ('train', 'val', 'test')
_SKIPPED_FOLDERS = frozenset(('__MACOSX', 'originals'))


@dataclass(slots=True)
class Record:
    """One photograph before a split is chosen.

    Args:
        sample_id: unique within a data set.
        path: the image file.
        label: class name.
        lesion_id: photographs of one lesion share it; None when unknown.
        split: train, val or test where the data itself says so, else None.
        metadata: further columns of the table, as text.

    Attributes:
        group: what ``lesion_id`` names, for messages and split files.
    """

    group: ClassVar[str] = 'lesion'

    sample_id: str
    path: str
    label: str
    lesion_id: str | None = None
    split: str | None = None
    metadata: dict = field(default_factory=dict)


def check_root(data_root: str) -> Path:
    """The data root as an absolute path.

    Raises:
        UserError: it does not exist, is not a folder, is empty, or was left
            unfinished by the tool that makes it.
    """
    root = Path(os.path.expanduser(data_root))
    if not root.is_dir():
        what = 'is not a folder' if root.exists() else 'does not exist'
        raise UserError(
            f'data root {data_root} {what}; set '
            '--cfg-options data_root=PATH to your images'
        )
    if not any(
        True for entry in root.iterdir() if not entry.name.startswith('.')
    ):
        raise UserError(
            f'data root {data_root} is empty; put the images '
            'there or set --cfg-options data_root=PATH'
        )
    tool = incomplete_marker(root)
    if tool is not None:
        raise UserError(
            f'data root {data_root} is half made: {tool} is writing it, or '
            'was ended before its end; run it again'
        )
    return root


def file_stamp(path: str | os.PathLike) -> tuple[int, ...]:
    """Inode, size and time of a file; empty where it cannot be read."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def is_skipped(name: str) -> bool:
    """Whether a folder of this name is hidden, or ``originals``."""
    return name.startswith('.') or name in _SKIPPED_FOLDERS


def subfolders(folder: Path) -> list[Path]:
    """Sorted folders that may hold images: not hidden, not ``originals``."""
    with os.scandir(folder) as entries:
        return sorted(
            folder / entry.name
            for entry in entries
            if entry.is_dir() and not is_skipped(entry.name)
        )


def list_images(folder: Path) -> list[Path]:
    """All image files under a folder, sorted by their path."""
    return [Path(path) for path in image_paths(folder)]


def image_paths(folder: str | os.PathLike) -> list[str]:
    """The same as texts, which are far quicker to make and to compare."""
    found = []
    for parent, names, files in os.walk(folder, followlinks=True):
        names[:] = [name for name in names if not is_skipped(name)]
        base = os.path.join(parent, '').removeprefix('./')
        found += [
            base + file
            for file in files
            if not file.startswith('.')
            and os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def read_table(path: Path, required: tuple[str, ...]) -> list[dict]:
    """Rows of a comma, semicolon or tab separated file by column name.

    Args:
        path: the table; its first line names the columns, in any case.
        required: column names that must be there, in lower case.

    Returns:
        One dict a row; keys in lower case, values without outer blanks.

    Raises:
        UserError: unreadable, without rows, or without a required column.
    """
    try:
        with open(path, newline='', encoding='utf-8-sig') as stream:
            header = stream.readline()
            delimiter = max('\t;,', key=header.count)
            stream.seek(0)
            reader = csv.reader(stream, delimiter=delimiter)
            columns = [name.strip().lower() for name in next(reader, [])]
            # Equal texts of a column are kept once.
            known: dict[str, str] = {}
            rows = []
            for row in reader:
                values = [known.setdefault(v, v) for v in map(str.strip, row)]
                if any(values):
                    rows.append(dict(zip(columns, values)))
    except FileNotFoundError:
        raise UserError(
            f'table {path} does not exist; name it with ann_file=FILE'
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'table {path} cannot be read: {error}') from None
    for name in required:
        if name not in columns:
            raise UserError(
                f'table {path} has no column "{name}"; found: '
                + (', '.join(columns) or 'none')
            )
    if not rows:
        raise UserError(f'table {path} has no rows under its column names')
    width = len(set(columns))
    for number, row in enumerate(rows, 2):
        if len(row) < width:
            missing = [name for name in columns if name not in row]
            raise UserError(
                f'table {path}, row {number} ends before its '
                f'column "{missing[0]}"; complete the row'
            )
    return rows


def check_records(
    records: list[Record], classes: tuple[str, ...], source: str
) -> None:
    """Hold records against the classes.

    Raises:
        UserError: a label outside the classes, a class without an image, or
            an id that stands twice.
    """
    known, seen, used = set(classes), set(), set()
    for record in records:
        if record.label not in known:
            raise UserError(
                f'{source}: image {record.sample_id} has the label '
                f'"{record.label}", which is not one of the classes '
                f'{", ".join(classes)}; correct it or set classes=[...]'
            )
        if record.sample_id in seen:
            raise UserError(
                f'{source}: image id {record.sample_id} stands '
                'there twice; ids must be unique'
            )
        seen.add(record.sample_id)
        used.add(record.label)
    missing = [name for name in classes if name not in used]
    if missing:
        raise UserError(
            f'{source}: no image of class "{missing[0]}"; add '
            'some or leave it out of classes=[...]'
        )


def same_id(name: str) -> str:
    """An image name without folder, suffix and ISIC's ``_downsampled``."""
    stem = name.replace('\\', '/').rsplit('/', 1)[-1]
    base, suffix = os.path.splitext(stem)
    stem = base if suffix.lower() in IMAGE_SUFFIXES else stem
    return stem.removesuffix('_downsampled')


class ImageFinder:
    """Finds the file of an image that a table names.

    The name may be a path below the root or its ``images``, a file name or
    an id without suffix. The suffix may differ (``a.jpg`` finds ``a.png``
    of a resized copy) and ``_downsampled`` may be missing on either side.
    With a folder ``images`` in the root only that one is searched, otherwise
    all folders but ``originals``.

    Args:
        root: the data root.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        images = root / 'images'
        self.folder = images if images.is_dir() else root
        self._by_id = defaultdict(list)
        for path in image_paths(self.folder):
            self._by_id[same_id(path)].append(path)

    def __call__(self, name: str) -> str | None:
        """The file of ``name``, or None.

        Raises:
            UserError: two different files could be meant.
        """
        folder, _, file = name.replace('\\', '/').rpartition('/')
        named = os.path.join(self.root, folder, file)
        if folder and os.path.isfile(named):
            # Path is slow and takes out no more than these
            odd = '//' in named or '/./' in named or named.startswith('./')
            return str(Path(named)) if odd else named
        found = self._by_id.get(same_id(file), [])
        if folder:
            parents = [str(base / folder) for base in (self.root, self.folder)]
            found = [
                p for p in found if (os.path.dirname(p) or '.') in parents
            ]
        if len(found) > 1:
            found = self._meant(name, file, found)
        return found[0] if found else None

    def _meant(self, name: str, file: str, found: list[str]) -> list[str]:
        """Those of several files of one id that are named most exactly."""
        for wanted in (
            lambda path: os.path.basename(path) == file,
            lambda path: Path(path).stem == file,
            lambda path: Path(path).stem == os.path.splitext(file)[0],
        ):
            exact = [path for path in found if wanted(path)]
            if exact:
                found = exact
                break
        # Archives hold some folders twice: equal sizes are taken as equal.
        if len({os.path.getsize(path) for path in found}) > 1:
            raise UserError(
                f'image {name} lies in two places, {found[0]} and '
                f'{found[1]}; remove the one that is not meant'
            )
        return found


def find_images(
    records: list[Record], root: Path, source: Path
) -> list[Record]:
    """Fill in ``path`` of every record of a table.

    Raises:
        UserError: an image is not on disk; names the first and their number.
    """
    finder = ImageFinder(root)
    missing, owner = [], {}
    for record in records:
        path = finder(record.sample_id)
        if path is None:
            missing.append(record.sample_id)
        else:
            record.path = path
            first = owner.setdefault(path, record.sample_id)
            if first != record.sample_id:
                raise UserError(
                    f'{source} lists {path} twice, as {first} and as '
                    f'{record.sample_id}; take one of the rows out'
                )
    if missing:
        raise UserError(
            f'{source} lists image {missing[0]}, which is not under '
            f'{finder.folder} ({len(missing)} of {len(records)} are missing); '
            'add the images or take their rows out'
        )
    return records
