# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One photograph as a record, and where records come from.

Class folders and annotation tables are read into the same list of
:class:`Record`, so that splits, data sets and tools share one reader.
"""

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from hkd_mm.errors import UserError
from hkd_mm.inference.images import IMAGE_SUFFIXES
from hkd_mm.unfinished import half_made

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
    tool = half_made(root)
    if tool is not None:
        raise UserError(
            f'data root {data_root} is half made: {tool} is writing it, or '
            'was ended before its end; run it again'
        )
    return root


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
