# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read records from folders whose names are the classes."""

import difflib
import json
import os
import shlex
import unicodedata
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hkd_mm.datasets.records import (
    SPLIT_NAMES,
    Record,
    composed,
    describe_left_out,
    file_stamp,
    image_paths,
    subfolders,
)
from hkd_mm.errors import UserError
from hkd_mm.io.files import printable, read_bytes
from hkd_mm.io.tables import find_column, is_blank, read_table

OWN = 'annotations.csv'  # of any data set, not only of official ones


class Layout(NamedTuple):
    """One official download."""

    dataset_type: str
    classes: tuple[str, ...]
    tables: tuple[str, ...]  # patterns; the first that fits is taken
    studies: str = ''  # remedy in a study of other images


HAM10000 = Layout(
    'hkd_mm.HAM10000',
    ('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc'),
    ('HAM10000_metadata*', 'ISIC2018_Task3_Training_GroundTruth.csv', OWN),
    'of a study take --size small, where it has one',
)
ISIC2019 = Layout(
    'hkd_mm.ISIC2019',
    ('MEL', 'NV', 'BCC', 'AK', 'BKL', 'DF', 'VASC', 'SCC'),
    ('ISIC_2019_Training_GroundTruth.csv', OWN),
)


def find_table(root: Path, patterns: tuple[str, ...]) -> Path | None:
    """The first table in a data root, or in a folder of it."""
    for pattern in patterns:
        for depth in ('', '*/'):
            found = sorted(
                path
                for path in root.glob(depth + pattern)
                if path.is_file() and path.suffix.lower() in ('', '.csv', '.tab')
            )
            if found:
                return found[0]
    return None


def way_out(root: Path) -> str:
    """The remedy for an official download read as something else, or nothing."""
    for layout in (HAM10000, ISIC2019):
        tables = tuple(name for name in layout.tables if name != OWN)
        table = find_table(root, tables)
        if table is not None:
            studies = f'; {layout.studies}' if layout.studies else ''
            return (
                f'it holds {table.name}: set --cfg-options '
                f'dataset_type={layout.dataset_type} '
                f'classes="[{",".join(layout.classes)}]"{studies}'
            )
    return ''


def read_class_folders(root: Path, classes: tuple[str, ...]) -> list[Record]:
    """Find images under ``root/<class>`` or ``root/<split>/<class>``.

    Raises:
        UserError: a class folder is missing, unknown, empty or a link to
            another one, or a split folder is missing.
    """
    splits = split_folders(root, classes)
    known: dict[tuple, Path] = {}  # by names that look the same
    for folder in [f for part in splits.values() or [root] for f in subfolders(part)]:
        first = known.setdefault((folder.parent, composed(folder.name)), folder)
        if first != folder:
            raise UserError(
                f'{folder.parent} has two folders called "{composed(folder.name)}", in '
                'composed and decomposed Unicode; move the images of one into the other'
            )
    if not splits:
        return _read_classes(root, root, classes, None, {})
    for name in ('train', 'val'):
        if name not in splits:
            raise UserError(
                f'data root {root} has {" and ".join(sorted(splits))} but no '
                f'{name} folder; add it, or let tools/data/'
                'convert_class_folders.py put the images in place'
            )
    other = [f.name for f in subfolders(root) if f not in splits.values()]
    if other:
        raise UserError(
            f'data root {root} has a folder "{other[0]}" beside '
            f'{", ".join(sorted(splits))}; move it elsewhere'
        )
    owners: dict[str, tuple[str, Path]] = {}
    return [
        record
        for name, folder in sorted(splits.items())
        for record in _read_classes(root, folder, classes, name, owners)
    ]


def split_folders(root: Path, classes: tuple[str, ...]) -> dict[str, Path]:
    """The folders train, val and test of a data root."""
    return {
        SPLIT_NAMES[folder.name.lower()]: folder
        for folder in subfolders(root)
        if folder.name.lower() in SPLIT_NAMES and composed(folder.name) not in classes
    }


def class_names(value: Any) -> list[str] | None:
    """Read class names, composed (NFC), from a list or a file of one name a line."""
    if isinstance(value, str):
        path = Path(value).expanduser()
        try:
            lines = read_bytes(path).decode('utf-8-sig').splitlines()
        except FileNotFoundError:
            raise UserError(
                f'classes={value!r} is neither a list such as [A,B] nor a '
                'file with one class name a line'
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(
                f'classes={value}: the file cannot be read ({error}); save '
                'it as UTF-8, one class name a line'
            ) from None
        value = [line.strip() for line in lines if line.strip()]
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise UserError(f'classes={value!r} must be a list such as [A,B], or a file')
    return [unicodedata.normalize('NFC', str(name)) for name in value]


@lru_cache(maxsize=4)
def _labels_of(
    table: Path, stamp: tuple[int, ...], label_col: str | None
) -> tuple[str, ...]:
    del stamp  # read once a process in this state
    rows = read_table(table)
    column = find_column(rows, table, ('label',), label_col, 'label_col')
    labels = sorted({composed(row[column]) for row in rows})
    for label in labels:
        if is_blank(label) and label != '-1':
            raise UserError(
                f'table {table}: an image has the label "{label}"; take such rows out '
                'or fill them in, or name the classes with classes=[...], it among them'
            )
    return tuple(labels)


def find_classes(
    root: Path, table: Path | None = None, label_col: str | None = None
) -> tuple[str, ...]:
    """The labels of the table of a data root, else its class folders; sorted.

    Raises:
        UserError: there is neither, a label is blank, or the root is an official
            download of another data set.
    """
    if table is not None:
        return _labels_of(table, file_stamp(table), label_col)
    official = way_out(root)
    if official:
        raise UserError(f'{root} is read as class folders, but {official}')
    parts = split_folders(root, ()).values() or [root]
    found = {composed(f.name) for part in parts for f in subfolders(part)}
    if not found:
        raise UserError(
            f'data root {root} has no class folders and no annotations.csv; put the '
            'images into one folder for each class, or name a table with ann_file=FILE'
        )
    return tuple(sorted(found))


def _read_classes(
    root: Path,
    folder: Path,
    classes: tuple[str, ...],
    split: str | None,
    owners: dict[str, tuple[str, Path]],
) -> list[Record]:
    """``owners`` are the class folders by which real folders were reached."""
    folders = subfolders(folder)
    found = [composed(path.name) for path in folders]
    # A part may lack a rare class, the training part may not.
    needed = classes if split in (None, 'train') else ()
    _check_names(folder, found, classes, needed)
    records = []
    start = len(str(root / 'x')) - 1  # of the path below the root
    for name, path in zip(found, folders):
        images = image_paths(path)
        if not images and name in needed:
            others = describe_left_out(path)
            raise UserError(
                f'class folder {path} has no image; add some, or remove the folder'
                + (others and f'; {others}')
            )
        for inner in {os.path.dirname(image): None for image in images}:
            first, owner = owners.setdefault(os.path.realpath(inner), (inner, path))
            if owner != path:
                raise UserError(
                    f'{first} and {inner} are one and the same folder; remove the link'
                )
        stems = Counter(os.path.splitext(image)[0] for image in images)
        for image in images:
            stem = os.path.splitext(image)[0]
            # the suffix belongs to the id only where a.jpg is beside a.png
            sample_id = printable((stem if stems[stem] == 1 else image)[start:])
            records.append(Record(sample_id, image, name, split=split))
    return records


def _check_names(
    folder: Path, found: list[str], classes: tuple[str, ...], needed: tuple[str, ...]
) -> None:
    missing = [name for name in needed if name not in found]
    unknown = [name for name in found if name not in classes]
    if not missing and not unknown:
        return
    official = way_out(folder)
    if official:
        raise UserError(f'{folder} is read as class folders, but {official}')
    if not found:
        raise UserError(
            f'data root {folder} has no class folders and no '
            'annotations.csv; expected the folders ' + ', '.join(classes)
        )
    names = json.dumps(found, ensure_ascii=False)
    own = f'name your own classes with --cfg-options {shlex.quote(f"classes={names}")}'
    if not unknown:
        raise UserError(
            f'{folder} has no folder for class "{missing[0]}" (found '
            f'{", ".join(found)}); add it, or {own}'
        )
    lower = {name.lower(): name for name in classes}
    close = difflib.get_close_matches(unknown[0].lower(), lower, 1)
    hint = f'rename it to "{lower[close[0]]}", or ' if close else ''
    raise UserError(
        f'{folder} has a folder "{unknown[0]}", which is not one of the '
        f'classes {", ".join(classes)}; {hint}{own}'
    )
