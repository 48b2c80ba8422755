# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Find, read and write split files."""

import json
import os
import re
from fractions import Fraction
from typing import Literal

from mmengine.logging import MMLogger
from typing_extensions import Required, TypedDict

from hkd_mm.datasets.records import SPLITS, Record, log_once
from hkd_mm.datasets.splits import (
    as_document,
    check_lesions,
    check_split,
    data_hash,
    draw_parts,
    draw_split,
    grouped_by,
    parse_ratios,
    ratio_name,
)
from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import AtomicBackend
from hkd_mm.io.schema import read_as

_REMEDY = '; name a split file of tools/data/split.py, or let one be drawn'


class SplitFile(TypedDict, total=False):
    """The content of a split file, see :func:`.splits.as_document`."""

    version: Literal[1]
    dataset: str
    ratios: str | None
    seed: int | None
    grouped_by: str
    counts: dict[str, dict[str, int]]
    data_hash: Required[str]
    hash: Required[str | None]
    train: Required[list[str]]
    val: Required[list[str]]
    test: Required[list[str]]


def read_split(path: str | os.PathLike) -> dict:
    """Read a split file; refuse other files and other versions."""
    if not os.path.exists(path):
        raise UserError(f'split file {path} does not exist{_REMEDY}')
    try:
        return read_as(SplitFile, path, _REMEDY)
    except UserError as error:
        raise UserError(f'split file {error}') from None


def write_split(document: dict, path) -> None:
    """Write a split file whole or not at all."""
    try:
        AtomicBackend().put_text(json.dumps(document, indent=1) + '\n', path)
    except OSError as error:
        raise UserError(
            f'split file {path} cannot be written ({error.strerror}); name another '
            'place with split_file=FILE'
        ) from None


def default_split_file(name: str, records: list[Record], ratios, seed: int) -> str:
    """Path of the split file when the config names none."""
    clean = re.sub(r'[^A-Za-z0-9._-]+', '_', name)[:100] or 'data'
    name = f'{clean}-{data_hash(records)[:8]}-{ratio_name(ratios)}-seed{seed}.json'
    return os.path.join('work_dirs', 'splits', name)


def find_split(
    records: list[Record], name: str, split_file: str | None, ratios, seed: int
) -> dict:
    """The split of some data: its own, that of a file, or a new one.

    A new one is written to the file and logged in one line.

    Raises:
        UserError: the file does not match the data, or is given for data
            that comes split.
    """
    if any(record.split for record in records):
        if split_file:
            raise UserError(
                f'data root {name} comes split into train, val and test; '
                'leave split_file=None'
            )
        return _given_split(records, name, ratios, seed)
    path = split_file or default_split_file(name, records, ratios, seed)
    if os.path.exists(path):
        document = read_split(path)
        check_split(document, records, path)
        return document
    document = draw_split(records, ratios, seed)
    document['dataset'] = name
    write_split(document, path)
    sizes = ' / '.join(f'{len(document[part])} {part}' for part in SPLITS)
    rare = [
        f'{label} in {part}'
        for part in SPLITS
        for label in sorted({record.label for record in records})
        if document[part] and label not in document['counts'][part]
    ]
    MMLogger.get_current_instance().info(
        f'Drew the split {sizes} of {name} by {document["grouped_by"]}, wrote {path}'
        + (f'; too few groups for an image of {", ".join(rare)}' if rare else '')
    )
    return document


def _given_split(records: list[Record], name: str, ratios, seed: int) -> dict:
    """The split that the data comes with; without a val part, one of train is drawn."""
    for record in records:
        if record.split not in SPLITS:
            raise UserError(
                f'{name}: image {record.sample_id} has the split '
                f'"{record.split or ""}"; it must be train, val or test for '
                'all images, or for none'
            )
    where = {record.sample_id: record.split for record in records}
    check_lesions(records, where, name)
    parts = {part: [i for i, home in where.items() if home == part] for part in SPLITS}
    if parts['val'] or not parts['train']:
        return as_document(records, parts, dataset=name)
    train, val, _ = parse_ratios(ratios)
    shares = [Fraction(share, train + val) for share in (train, val)]
    given = [record for record in records if record.split == 'train']
    parts['train'], parts['val'] = draw_parts(given, shares, seed)
    log_once(
        f'{name} comes without a val part: drew {len(parts["val"])} of its '
        f'{len(given)} training images by {grouped_by(given)}, by split_ratios '
        f'{ratio_name(ratios)} and split_seed {seed}'
    )
    return as_document(records, parts, ratios, seed, name)
