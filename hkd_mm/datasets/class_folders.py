# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Records of a folder tree whose folder names are the classes."""

import difflib
import os
from collections import Counter
from pathlib import Path

from hkd_mm.errors import UserError

from .official_layouts import way_out
from .records import Record, image_paths, subfolders

# Folder names, in lower case, that mean a split.
SPLIT_NAMES = dict(
    train='train',
    training='train',
    val='val',
    valid='val',
    validation='val',
    test='test',
    testing='test',
)


def read_class_folders(root: Path, classes: tuple[str, ...]) -> list[Record]:
    """Photographs under ``root/<class>`` or ``root/<split>/<class>``.

    Ids are paths below the root without suffix. There are no lesion ids.

    Args:
        root: the data root.
        classes: class names; the folders must have exactly these.

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
                f'{name} folder; add it, or let tools/dataset_tools/'
                'convert_class_folders.py put the images in place'
            )
    other = [
        folder.name for folder in folders if folder not in splits.values()
    ]
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
    """Folders of a data root that stand for train, val and test."""
    return {
        SPLIT_NAMES[folder.name.lower()]: folder
        for folder in subfolders(root)
        if folder.name.lower() in SPLIT_NAMES and folder.name not in classes
    }


def _read_classes(
    root: Path, folder: Path, classes: tuple[str, ...], split: str | None
) -> list[Record]:
    found = [entry.name for entry in subfolders(folder)]
    # A part may lack a rare class, the training part may not.
    needed = classes if split in (None, 'train') else ()
    _check_names(folder, found, classes, needed)
    records = []
    start = len(str(root / 'x')) - 1  # of what is below the root
    for name in found:
        images = image_paths(folder / name)
        if not images and name in needed:
            raise UserError(
                f'class folder {folder / name} has no image; add '
                'some or leave the class out of classes=[...]'
            )
        plain = [os.path.splitext(path)[0] for path in images]
        stems = Counter(plain)
        records += [
            # a.jpg beside a.png: only then the suffix tells them apart.
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
    own = f'--cfg-options classes="[{",".join(found)}]"'
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
