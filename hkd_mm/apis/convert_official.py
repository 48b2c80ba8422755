# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Downloads of HAM10000 and ISIC 2019 put into one layout."""

import csv
import fnmatch
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import track

from hkd_mm.errors import UserError

from .downloads import Entry, list_downloads, place

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
    from hkd_mm.datasets.image_finder import same_id
    from hkd_mm.datasets.records import IMAGE_SUFFIXES

    with ExitStack() as stack:
        entries = list_downloads(sources, stack)
        records = _read_tables(kind, entries)
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
        new = 0
        for record in track(
            records,
            'placing images',
            transient=True,
            console=Console(stderr=True),
        ):
            entry = images[same_id(record.sample_id)]
            name = record.sample_id + entry.name.suffix.lower()
            new += place(entry, Path(out, 'images', name))
            record.path = name
    write_annotations(records, out)
    counts = {}
    for record in records:
        counts[record.label] = counts.get(record.label, 0) + 1
    return dict(
        images=len(records),
        new=new,
        counts=counts,
        lesions=len(
            {record.lesion_id or record.sample_id for record in records}
        ),
    )


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


def _read_tables(kind: str, entries: list[Entry]):
    from hkd_mm.datasets.ham10000 import HAM10000
    from hkd_mm.datasets.isic2019 import ISIC2019
    from hkd_mm.datasets.official_tables import merge_metadata, read_official
    from hkd_mm.datasets.records import check_records

    classes = dict(HAM10000=HAM10000, ISIC2019=ISIC2019)[kind].METAINFO[
        'classes'
    ]
    main, companions = TABLES[kind]
    table = _find(entries, main)
    if table is None:
        raise UserError(
            f'the download holds no {" or ".join(main)}; name '
            'the folder or file that does as well'
        )
    with tempfile.TemporaryDirectory() as folder:
        records = read_official(_unpack(table, folder), classes)
        check_records(records, classes, str(table.name))
        second = _find(entries, companions)
        if second is not None and not any(r.lesion_id for r in records):
            merge_metadata(records, _unpack(second, folder))
    return records


def _find(entries: list[Entry], patterns: tuple[str, ...]) -> Entry | None:
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
