# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Find, read and write split files."""

import json
import os
import re
from pathlib import Path

from mmengine.logging import MMLogger

from hkd_mm.datasets.records import SPLITS, Record
from hkd_mm.datasets.splits import (
    as_document,
    check_lesions,
    check_split,
    data_hash,
    draw_split,
    ratio_name,
)
from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import AtomicBackend


def read_split(path) -> dict:
    """Read a split file.

    Raises:
        UserError: missing, unreadable or not JSON.
    """
    try:
        document = json.loads(Path(path).read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise UserError(f'split file {path} does not exist') from None
    except (OSError, ValueError) as error:
        raise UserError(f'split file {path} cannot be read: {error}') from None
    if not isinstance(document, dict):
        raise UserError(f'split file {path} is not a split file of tools/data/split.py')
    return document


def write_split(document: dict, path) -> None:
    """Write a split file whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    try:
        AtomicBackend().put_text(_as_text(document), path)
    except OSError as error:
        raise UserError(
            f'split file {path} cannot be written '
            f'({error.strerror}); name another place with '
            'split_file=FILE'
        ) from None


def _as_text(document: dict) -> str:
    """The text of ``json.dumps(document, indent=1)``, much faster."""
    lists = {name: document[name] for name in SPLITS if document[name]}
    text = json.dumps({**document, **dict.fromkeys(lists, [])}, indent=1)
    for name, ids in lists.items():
        # json writes without indent in C, ids of any characters included
        rows = json.dumps(ids, separators=(',\n  ', ': '))[1:-1]
        text = text.replace(f'\n "{name}": []', f'\n "{name}": [\n  {rows}\n ]')
    return text + '\n'


def default_split_file(name: str, records: list[Record], ratios, seed: int) -> str:
    """Path of the split file when the config names none."""
    clean = re.sub(r'[^A-Za-z0-9._-]+', '_', name) or 'data'
    return os.path.join(
        'work_dirs',
        'splits',
        f'{clean}-{data_hash(records)[:8]}-{ratio_name(ratios)}-seed{seed}.json',
    )


def find_split(
    records: list[Record],
    name: str,
    split_file: str | None,
    ratios,
    seed: int,
) -> dict:
    """The split of some data: its own, that of a file, or a new one.

    A new one is written to the file and logged in one line.

    Returns:
        The content of a split file.

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
        return _given_split(records, name)
    path = split_file or default_split_file(name, records, ratios, seed)
    if os.path.exists(path):
        document = read_split(path)
        check_split(document, records, path)
        return document
    document = draw_split(records, ratios, seed)
    document['dataset'] = name
    write_split(document, path)
    sizes = ' / '.join(f'{len(document[part])} {part}' for part in SPLITS)
    MMLogger.get_current_instance().info(
        f'Drew the split {sizes} of {name} by {document["grouped_by"]}, wrote {path}'
    )
    return document


def _given_split(records: list[Record], name: str) -> dict:
    """The split that the data comes with."""
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
    return as_document(records, parts, dataset=name)
