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

from hkd_mm.datasets.records import Record, file_stamp, image_paths, subfolders
from hkd_mm.errors import UserError
from hkd_mm.io.tables import read_table

# folder names, in lower case, of the parts of a split
SPLIT_NAMES = dict(
    train='train',
    training='train',
    val='val',
    valid='val',
    validation='val',
    test='test',
    testing='test',
)
OWN = 'annotations.csv'  # of any data set, not only of official ones


class Layout(NamedTuple):
    """One official download.

    Args:
        dataset_type: type of its data set.
        classes: in the order of the labels.
        tables: patterns below the data root; the first that fits is taken.
        studies: remedy in a study of other images.
    """

    dataset_type: str
    classes: tuple[str, ...]
    tables: tuple[str, ...]
    studies: str = ''


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
    """The remedy for an official download that is read as something else.

    Returns:
        The rest of an error message, empty without an official table.
    """
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

    Ids are paths below the root without suffix. There are no lesion ids.

    Raises:
        UserError: a class folder is missing, unknown or empty, or a split
            folder is missing.
    """
    folders, splits = subfolders(root), split_folders(root, classes)
    if not splits:
        return _read_classes(root, root, classes, None)
    for name in ('train', 'val'):
        if name not in splits:
            raise UserError(
                f'data root {root} has {" and ".join(sorted(splits))} but no '
                f'{name} folder; add it, or let tools/data/'
                'convert_class_folders.py put the images in place'
            )
    other = [f.name for f in folders if f not in splits.values()]
    if other:
        raise UserError(
            f'data root {root} has a folder "{other[0]}" beside '
            f'{", ".join(sorted(splits))}; move it elsewhere'
        )
    return [
        record
        for name, folder in sorted(splits.items())
        for record in _read_classes(root, folder, classes, name)
    ]


def split_folders(root: Path, classes: tuple[str, ...]) -> dict[str, Path]:
    """The folders train, val and test of a data root."""
    return {
        SPLIT_NAMES[folder.name.lower()]: folder
        for folder in subfolders(root)
        if folder.name.lower() in SPLIT_NAMES and class_name(folder) not in classes
    }


def class_name(folder: Path) -> str:
    """Name of a class folder in Unicode's composed form (NFC).

    macOS gives names decomposed (NFD), lists are typed composed.
    """
    return unicodedata.normalize('NFC', folder.name)


def class_names(value: Any) -> list[str] | None:
    """Read class names from a list or from a UTF-8 file, one name a line.

    Returns:
        Names in Unicode's composed form (NFC), or None for None.

    Raises:
        UserError: the file does not exist or cannot be read.
    """
    if isinstance(value, str):
        path = Path(value).expanduser()
        try:
            lines = path.read_text(encoding='utf-8-sig').splitlines()
        except FileNotFoundError:
            raise UserError(
                f'classes={value!r} is neither a list such as [A,B] nor a '
                'file with one class name a line'
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f'classes={value}: the file cannot be read ({error}); save '
                'it as UTF-8, one class name a line'
            ) from None
        value = [line.strip() for line in lines if line.strip()]
    if value is None:
        return None
    return [unicodedata.normalize('NFC', str(name)) for name in value]


@lru_cache(maxsize=4)
def _labels_of(table: Path, stamp: tuple[int, ...]) -> tuple[str, ...]:
    """Labels of a table in this state, read once a process."""
    del stamp
    rows = read_table(table, ('image', 'label'))
    return tuple(sorted({row['label'] for row in rows}))


def find_classes(root: Path, ann_file: str | None = None) -> tuple[str, ...]:
    """The labels of the table of a data root, else its class folders; sorted.

    Raises:
        UserError: there is neither, or the root is an official download of
            another data set.
    """
    table = root / (ann_file or OWN)
    if ann_file or table.exists():
        return _labels_of(table, file_stamp(table))
    official = way_out(root)
    if official:
        raise UserError(f'{root} is read as class folders, but {official}')
    parts = split_folders(root, ()).values() or [root]
    found = {class_name(f) for part in parts for f in subfolders(part)}
    if not found:
        raise UserError(
            f'data root {root} has no class folders and no annotations.csv; '
            'put the images into one folder for each class, or name a '
            'table with ann_file=FILE'
        )
    return tuple(sorted(found))


def _read_classes(
    root: Path, folder: Path, classes: tuple[str, ...], split: str | None
) -> list[Record]:
    folders = subfolders(folder)
    found = [class_name(path) for path in folders]
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise UserError(
            f'{folder} has two folders called "{twice[0]}", in composed and '
            'decomposed Unicode; move the images of one into the other'
        )
    # A part may lack a rare class, the training part may not.
    needed = classes if split in (None, 'train') else ()
    _check_names(folder, found, classes, needed)
    records = []
    start = len(str(root / 'x')) - 1  # of the path below the root
    for name, path in zip(found, folders):
        images = image_paths(path)
        if not images and name in needed:
            raise UserError(
                f'class folder {path} has no image; add some, or remove the folder'
            )
        plain = [os.path.splitext(path)[0] for path in images]
        stems = Counter(plain)
        records += [
            # the suffix belongs to the id only where a.jpg is beside a.png
            Record(
                (stem if stems[stem] == 1 else path)[start:],
                path,
                name,
                split=split,
            )
            for stem, path in zip(plain, images)
        ]
    return records


def _check_names(
    folder: Path,
    found: list[str],
    classes: tuple[str, ...],
    needed: tuple[str, ...],
) -> None:
    missing = [name for name in needed if name not in found]
    unknown = [name for name in found if name not in classes]
    if not missing and not unknown:
        return
    official = way_out(folder)
    if official:
        raise UserError(f'{folder} is read as class folders, but {official}')
    names = json.dumps(found, ensure_ascii=False)
    own = f'--cfg-options {shlex.quote(f"classes={names}")}'
    if not found:
        raise UserError(
            f'data root {folder} has no class folders and no '
            'annotations.csv; expected the folders ' + ', '.join(classes)
        )
    if unknown:
        close = difflib.get_close_matches(
            unknown[0].lower(), [name.lower() for name in classes], 1
        )
        hint = [name for name in classes if name.lower() in close]
        raise UserError(
            f'{folder} has a folder "{unknown[0]}", which is not one of the '
            f'classes {", ".join(classes)}; '
            + (f'rename it to "{hint[0]}", or ' if hint else '')
            + f'name your own classes with {own}'
        )
    raise UserError(
        f'{folder} has no folder for class "{missing[0]}" (found '
        f'{", ".join(found)}); add it, or name your own classes '
        f'with {own}'
    )
