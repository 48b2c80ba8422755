# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Convert public downloads and class folders into one layout."""

import argparse
import csv
import fnmatch
import os
import re
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hkd_mm.data_tools.downloads import Entry, list_downloads, place
from hkd_mm.errors import UserError
from hkd_mm.io.progress import tracked


def place_images(found: list[tuple[Any, Entry]], out: str) -> int:
    """Put every image where its record's path says, below ``out/images``.

    Args:
        found: pairs of a record and the entry of its image.
        out: data root; made when missing.

    Returns:
        How many were not there before.
    """
    new = 0
    for record, entry in tracked(found, 'placing', len(found), 'images'):
        new += place(entry, Path(out, 'images', record.path))
    return new


def write_annotations(records, out: str) -> None:
    """Write ``annotations.csv`` of records, whole or not at all."""
    extra = list(
        dict.fromkeys(key for record in records for key in record.metadata)
    )
    known = ['image', 'label']
    known += ['lesion_id'] * any(record.lesion_id for record in records)
    known += ['split'] * any(record.split for record in records)
    target = Path(out, 'annotations.csv')
    aside = target.with_name(f'.{target.name}.{os.getpid()}')
    with open(aside, 'w', newline='', encoding='utf-8') as stream:
        writer = csv.DictWriter(
            stream,
            [*known, *extra],
            restval='',
            lineterminator='\n',
            extrasaction='ignore',
        )
        writer.writeheader()
        for record in records:
            writer.writerow(
                dict(
                    record.metadata,
                    image=record.sample_id,
                    label=record.label,
                    lesion_id=record.lesion_id or '',
                    split=record.split or '',
                )
            )
    os.replace(aside, target)


def convert_folders(
    sources: list[str],
    out: str,
    rename: dict[str, str] | None = None,
    lesion_pattern: str | None = None,
    val_ratio: float = 0.1,
    seed: int = 42,
    ignore_split: bool = False,
) -> dict:
    """Write ``out/images/<class>/`` and ``out/annotations.csv``.

    The class is the folder that holds the image. Where the download has
    train and test folders but none for validation, that one is drawn from
    train, stratified and by lesion. Where it has no such folders, the split
    is left to the data set.

    Args:
        sources: folders or zip archives.
        out: data root; made when missing.
        rename: class of the download -> class here; several may become one,
            and those that become '' are left out.
        lesion_pattern: regular expression on the file name whose first group
            is the lesion id.
        val_ratio: share of train that becomes val, between 0 and 1.
        seed: of that draw.
        ignore_split: leave the split to the data set in any case.

    Returns:
        ``images``, ``new``, ``counts`` (class -> images), ``splits``
        (split -> images).

    Raises:
        UserError: no images, an unknown class in ``rename``, a bad pattern,
            or a lesion in two parts of the download.
    """
    with ExitStack() as stack:
        found = _find(sources, stack, rename or {})
        _set_lesions(found, lesion_pattern)
        records = [record for record, _ in found]
        _number_twins(records)
        for record in records:
            record.split = None if ignore_split else record.split
        _complete_split(records, val_ratio, seed)
        new = place_images(found, out)
    write_annotations(records, out)
    return dict(
        images=len(records),
        new=new,
        counts=dict(Counter(record.label for record in records)),
        splits=dict(Counter(r.split for r in records if r.split)),
    )


def _find(
    sources: list[str], stack: ExitStack, rename: dict[str, str]
) -> list[tuple]:
    """Pairs of record and image, under the new names of the classes."""
    from hkd_mm.datasets.records import IMAGE_SUFFIXES

    pairs = [
        _record(entry)
        for entry in list_downloads(sources, stack)
        if entry.name.suffix.lower() in IMAGE_SUFFIXES
    ]
    found = [pair for pair in pairs if pair is not None]
    if not found:
        raise UserError(
            f'{", ".join(sources)} holds no class folders with images'
        )
    return _rename(found, rename)


def _record(entry: Entry):
    from hkd_mm.datasets.class_folders import SPLIT_NAMES
    from hkd_mm.datasets.records import Record

    folders = entry.name.parts[:-1]
    if not folders or folders[-1].lower() in SPLIT_NAMES:
        return None
    split = next(
        (
            SPLIT_NAMES[name.lower()]
            for name in reversed(folders[:-1])
            if name.lower() in SPLIT_NAMES
        ),
        None,
    )
    name = f'{folders[-1]}/{entry.name.name}'
    return Record(name, name, folders[-1], split=split), entry


def _rename(found: list, rename: dict[str, str]) -> list:
    known = {record.label for record, _ in found}
    for name in rename:
        if name not in known:
            raise UserError(
                f'--rename {name}=...: the download has no class '
                f'"{name}"; found: {", ".join(sorted(known))}'
            )
    for record, _ in found:
        record.label = rename.get(record.label, record.label)
    return [(record, entry) for record, entry in found if record.label]


def _set_lesions(found: list, pattern: str | None) -> None:
    if pattern is None:
        return
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f'--lesion-id {pattern}: not a regular expression ({error})'
        ) from None
    if not expression.groups:
        raise UserError(
            f'--lesion-id {pattern}: put the id in brackets, such '
            r'as "(PAT_\d+_\d+)"'
        )
    for record, entry in found:
        match = expression.search(entry.name.name)
        record.lesion_id = match.group(1) if match else None
    if not any(record.lesion_id for record, _ in found):
        raise UserError(
            f'--lesion-id {pattern} fits no file name, such as '
            f'{found[0][1].name.name}'
        )


def _number_twins(records) -> None:
    """Give files of one name in several folders different names."""
    taken = set()
    for record in records:
        folder, _, file = record.path.rpartition('/')
        plain = Path(file)
        number, name = 1, file
        while (folder, Path(name).stem.lower()) in taken:
            number += 1
            name = f'{plain.stem}_{number}{plain.suffix}'
        taken.add((folder, Path(name).stem.lower()))
        record.path = record.sample_id = f'{folder}/{name}'


def _complete_split(records, val_ratio: float, seed: int) -> None:
    """Draw val from train where the download has train and test only."""
    from hkd_mm.datasets.splits import check_lesions, draw_split

    splits = {record.split for record in records}
    if splits == {None}:
        return
    if None in splits:
        name = next(r.sample_id for r in records if r.split is None)
        raise UserError(
            f'image {name} lies outside the train, val and test '
            'folders of the download; name one of them only'
        )
    check_lesions(
        records,
        {record.sample_id: record.split for record in records},
        'the split of the download is of no use (see --ignore-split)',
    )
    if 'val' in splits or 'train' not in splits:
        return
    if not 0 < val_ratio < 1:
        raise UserError(f'--val-ratio {val_ratio} must lie between 0 and 1')
    train = [record for record in records if record.split == 'train']
    parts = draw_split(train, (1 - val_ratio, val_ratio), seed)
    chosen = set(parts['val'])
    for record in train:
        if record.sample_id in chosen:
            record.split = 'val'


# data set -> (main tables, companions), file name patterns in the order of
# preference
TABLES = dict(
    HAM10000=(
        (
            'HAM10000_metadata',
            'HAM10000_metadata.*',
            'ISIC2018_Task3_Training_GroundTruth.csv',
        ),
        ('ISIC2018_Task3_Training_LesionGroupings.csv',),
    ),
    ISIC2019=(
        ('ISIC_2019_Training_GroundTruth.csv',),
        ('ISIC_2019_Training_Metadata.csv',),
    ),
)


def convert_official(kind: str, sources: list[str], out: str) -> dict:
    """Write ``out/images`` and ``out/annotations.csv``.

    Images are linked where possible, else copied; those that are there are
    left alone, so a second call only completes.

    Args:
        kind: HAM10000 or ISIC2019.
        sources: folders or zip archives of the download.
        out: data root; made when missing.

    Returns:
        ``images``, ``new``, ``counts`` (class -> images), ``lesions``.

    Raises:
        UserError: a table or an image is missing, or something is damaged.
    """
    with ExitStack() as stack:
        entries = list_downloads(sources, stack)
        records = _read_tables(kind, entries)
        new = place_images(_with_images(records, entries), out)
    write_annotations(records, out)
    return dict(
        images=len(records),
        new=new,
        counts=dict(Counter(record.label for record in records)),
        lesions=len(
            {record.lesion_id or record.sample_id for record in records}
        ),
    )


def parse_args(
    argv: list[str] | None, out: str, description: str, epilog: str
) -> argparse.Namespace:
    """Read the command line of a tool that converts one of the downloads.

    Args:
        argv: as given to the tool.
        out: data root where the command line names none.
        description: what the tool does.
        epilog: where the download is found.
    """
    parser = argparse.ArgumentParser(description=description, epilog=epilog)
    parser.add_argument(
        'sources',
        nargs='+',
        help='folders, zip archives and tables of the download',
    )
    parser.add_argument(
        '--out', default=out, help='data root (default: %(default)s)'
    )
    return parser.parse_args(argv)


def run(kind: str, args: argparse.Namespace) -> None:
    """Convert as the command line says, and tell what came of it."""
    done = convert_official(kind, args.sources, args.out)
    counts = ', '.join(f'{name} {n}' for name, n in done['counts'].items())
    print(
        f'{done["images"]} images of {done["lesions"]} lesions in '
        f'{args.out}, {done["new"]} newly placed ({counts})'
    )


def _with_images(records, entries: list[Entry]) -> list[tuple]:
    """Pairs of record and image; the record's path becomes its new name."""
    from hkd_mm.datasets.records import IMAGE_SUFFIXES, same_id

    images = {}
    for entry in entries:
        if (
            entry.name.suffix.lower() in IMAGE_SUFFIXES
            and 'originals' not in entry.name.parts
        ):
            images.setdefault(same_id(entry.name.name), entry)
    missing = [
        record.sample_id
        for record in records
        if same_id(record.sample_id) not in images
    ]
    if missing:
        raise UserError(
            f'{len(missing)} of {len(records)} images of the table are '
            f'not in the download, the first is {missing[0]}; name all '
            'its folders and archives'
        )
    pairs = [(record, images[same_id(record.sample_id)]) for record in records]
    for record, entry in pairs:
        record.path = record.sample_id + entry.name.suffix.lower()
    return pairs


def _read_tables(kind: str, entries: list[Entry]):
    from hkd_mm.datasets.isic import (
        HAM10000,
        ISIC2019,
        merge_metadata,
        read_official,
    )
    from hkd_mm.datasets.records import check_records

    classes = dict(HAM10000=HAM10000, ISIC2019=ISIC2019)[kind].METAINFO[
        'classes'
    ]
    main, companions = TABLES[kind]
    table = _find_official(entries, main)
    if table is None:
        raise UserError(
            f'the download holds no {" or ".join(main)}; name '
            'the folder or file that does as well'
        )
    with tempfile.TemporaryDirectory() as folder:
        records = read_official(_unpack(table, folder), classes)
        check_records(records, classes, str(table.name))
        second = _find_official(entries, companions)
        if second is not None and not any(r.lesion_id for r in records):
            merge_metadata(records, _unpack(second, folder))
    return records


def _find_official(
    entries: list[Entry], patterns: tuple[str, ...]
) -> Entry | None:
    for pattern in patterns:
        for entry in entries:
            if fnmatch.fnmatchcase(
                entry.name.name, pattern
            ) and entry.name.suffix.lower() in ('', '.csv', '.tab'):
                return entry
    return None


def _unpack(entry: Entry, folder: str) -> Path:
    target = Path(folder, entry.name.name)
    with entry.open() as source, open(target, 'wb') as copy:
        shutil.copyfileobj(source, copy)
    return target
