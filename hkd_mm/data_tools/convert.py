# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Convert public downloads and class folders into one layout."""

import os
import re
from collections import Counter
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hkd_mm.data_tools.downloads import TABLES, Entry, list_downloads, place
from hkd_mm.data_tools.source import write_annotations
from hkd_mm.errors import UserError
from hkd_mm.io.files import is_skipped
from hkd_mm.io.images import IMAGE_SUFFIXES
from hkd_mm.io.progress import tracked

_LONGEST = 250  # bytes of a file name, of 255: a number may follow
Found = list[tuple[Any, Entry]]  # records and the entries of their images


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

    The class is the folder that holds the image. Where the download has train and test
    folders but none for validation, ``val_ratio`` of train is drawn, stratified and by
    lesion. Where it has no such folders, or with ``ignore_split``, the split is left to
    the data set. Returned are ``images``, ``new``, ``counts`` (class -> images),
    ``splits`` (split -> images), ``skipped`` (suffix -> files that are no image in a
    class folder).

    Args:
        rename: class of the download -> class here; several may become one, and those
            that become '' are left out.
        lesion_pattern: regular expression on the file name whose first group is the
            lesion id.
    """
    with ExitStack() as stack:
        entries, skipped = list_downloads(sources, out, stack)
        found = _rename(_find_images(entries, skipped, sources), rename or {})
        _set_lesions(found, lesion_pattern)
        records = [record for record, _ in found]
        taken = set()
        for record in records:  # one name in several folders becomes several
            folder, _, file = record.path.rpartition('/')
            plain = Path(file)
            while len(os.fsencode(file)) > _LONGEST:
                plain = plain.with_stem(plain.stem[:-1])
                file = plain.name
            number, name = 1, file
            while (folder, Path(name).stem.lower()) in taken:
                number += 1
                name = f'{plain.stem}_{number}{plain.suffix}'
            taken.add((folder, Path(name).stem.lower()))
            record.path = record.sample_id = f'{folder}/{name}'
        for record in records:
            record.split = None if ignore_split else record.split
        _complete_split(records, val_ratio, seed)
        done = _write(found, out)
    splits = Counter(r.split for r in records if r.split)
    return dict(done, splits=dict(splits), skipped=dict(skipped.most_common()))


def convert_official(kind: str, sources: list[str], out: str, **words: str) -> dict:
    """Write ``out/images`` and ``out/annotations.csv`` of HAM10000 or ISIC2019.

    Images are linked where possible, else copied; existing ones are kept. ``words`` are
    those of the data set, such as ``image_col``. Returned are ``images``, ``new``,
    ``counts`` (class -> images) and ``lesions``.
    """
    with ExitStack() as stack:
        entries, _ = list_downloads(sources, out, stack, folders_name_classes=False)
        records = _read_tables(kind, entries, words)
        done = _write(_with_images(records, entries), out)
    return dict(done, lesions=len({r.lesion_id or r.sample_id for r in records}))


def _write(found: Found, out: str) -> dict:
    new = sum(
        place(entry, Path(out, 'images', record.path))
        for record, entry in tracked(found, 'placing', len(found), 'images')
    )
    records = [record for record, _ in found]
    write_annotations(Path(out, 'annotations.csv'), records)
    counts = Counter(record.label for record in records)
    return dict(images=len(records), new=new, counts=dict(counts))


def _find_images(
    entries: list[Entry], skipped: Counter[str], sources: list[str]
) -> Found:
    from hkd_mm.datasets.records import SPLIT_NAMES, Record

    found = []
    for entry in entries:
        *folders, file = entry.name.parts
        if entry.name.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if not folders or folders[-1].lower() in SPLIT_NAMES:
            skipped[f'{entry.name.suffix.lower()} outside of class folders'] += 1
            continue
        *above, label = folders
        splits = [SPLIT_NAMES.get(name.lower()) for name in reversed(above)]
        split = next(filter(None, splits), None)
        name = f'{label}/{file}'
        found.append((Record(name, name, label, split=split), entry))
    if not found:
        raise UserError(
            f'{", ".join(sources)} holds no class folders with images'
            + ''.join(f', but {n} {suffix}' for suffix, n in skipped.items())
        )
    return found


def _rename(found: Found, rename: dict[str, str]) -> Found:
    known = {record.label for record, _ in found}
    for name, new in rename.items():
        if is_skipped(new) or re.search(r'[/\\\0-\x1f]', new) or new != new.strip():
            raise UserError(
                f'--rename {name}={new}: no name of a class folder; write a plain one'
            )
        if name not in known:
            raise UserError(
                f'--rename {name}=...: the download has no class '
                f'"{name}"; found: {", ".join(sorted(known))}'
            )
    for record, _ in found:
        record.label = rename.get(record.label, record.label)
    return [(record, entry) for record, entry in found if record.label]


def _set_lesions(found: Found, pattern: str | None) -> None:
    if pattern is None:
        return
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
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
        record.lesion_id = match and match[1]
    if not any(record.lesion_id for record, _ in found):
        raise UserError(
            f'--lesion-id {pattern} fits no file name, such as {found[0][1].name.name}'
        )


def _complete_split(records, val_ratio: float, seed: int) -> None:
    """Draw val from train where the download has train and test only."""
    from hkd_mm.datasets.splits import check_lesions, draw_split

    where = {record.sample_id: record.split for record in records}
    splits = {*where.values()}
    if splits == {None}:
        return
    if None in splits:
        name = next(name for name, split in where.items() if split is None)
        raise UserError(
            f'image {name} lies outside the train, val and test '
            'folders of the download; name one of them only'
        )
    reason = 'the split of the download is of no use (see --ignore-split)'
    check_lesions(records, where, reason)
    if 'val' in splits or 'train' not in splits:
        return
    if not 0 < val_ratio < 1:
        raise UserError(f'--val-ratio {val_ratio} must lie between 0 and 1')
    train = [record for record in records if record.split == 'train']
    chosen = {*draw_split(train, (1 - val_ratio, val_ratio), seed)['val']}
    for record in train:
        record.split = 'val' if record.sample_id in chosen else 'train'


def _read_tables(kind: str, entries: list[Entry], words: dict[str, str]) -> list:
    from hkd_mm.datasets import isic
    from hkd_mm.datasets.label_tables import named_columns
    from hkd_mm.datasets.records import check_records

    dataset = getattr(isic, kind)
    tables = dataset.TABLES[:-1]  # the last is a converted one
    table = _find_table(entries, tables)
    if table is None:
        raise UserError(
            f'the download holds no {" or ".join(tables)}; name '
            'the folder or file that does as well'
        )
    classes = dataset.METAINFO['classes']
    names = dataset.companions(Path(table.name))
    companions = [_find_table(entries, (name,)) for name in names]
    companions = [entry.path for entry in companions if entry is not None]
    columns = named_columns(**words)
    records = isic.read_official(table.path, classes, companions, columns)
    check_records(records, classes, str(table.name))
    return records


def _find_table(entries: list[Entry], patterns: tuple[str, ...]) -> Entry | None:
    """The first entry of the first pattern that fits any."""
    tables = [entry for entry in entries if entry.name.suffix.lower() in TABLES]
    fits = (e for p in patterns for e in tables if fnmatchcase(e.name.name, p))
    return next(fits, None)


def _with_images(records, entries: list[Entry]) -> Found:
    """Pairs of record and image; the record's path becomes its new name."""
    from hkd_mm.datasets.records import same_id

    images = {}
    for entry in entries:
        if entry.name.suffix.lower() in IMAGE_SUFFIXES:
            images.setdefault(same_id(entry.name.name), entry)
    found = [(r, images.get(same_id(r.sample_id))) for r in records]
    missing = [record for record, entry in found if entry is None]
    if missing:
        raise UserError(
            f'{len(missing)} of {len(records)} images of the table are '
            f'not in the download, the first is {missing[0].sample_id}; name '
            'all its folders and archives'
        )
    for record, entry in found:
        if re.search(r'[/\\\r\n]', record.sample_id):
            raise UserError(
                f'the table lists image {record.sample_id!a}; write its name without '
                'folders'
            )
        record.path = record.sample_id + entry.name.suffix.lower()
    return found
