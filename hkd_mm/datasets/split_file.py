# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Split files on disk: where they are, reading and whole writing."""

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


def read_split(path) -> dict:
    """Content of a split file.

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
        raise UserError(
            f'split file {path} is not a split file of tools/data/split.py'
        )
    return document


def write_split(document: dict, path) -> None:
    """Write a split file whole or not at all.

    Raises:
        UserError: the place cannot be written.
    """
    path = Path(path)
    aside = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(_as_text(document), encoding='utf-8')
        os.replace(aside, path)
    except OSError as error:
        raise UserError(
            f'split file {path} cannot be written '
            f'({error.strerror}); name another place with '
            'split_file=FILE'
        ) from None


def _as_text(document: dict) -> str:
    """What ``json.dumps(document, indent=1)`` gives, much sooner."""
    lists = {name: document[name] for name in SPLITS if document[name]}
    text = json.dumps({**document, **dict.fromkeys(lists, [])}, indent=1)
    for name, ids in lists.items():
        # json writes without indent in C, ids of any characters included
        rows = json.dumps(ids, separators=(',\n  ', ': '))[1:-1]
        text = text.replace(
            f'\n "{name}": []', f'\n "{name}": [\n  {rows}\n ]'
        )
    return text + '\n'


def default_split_file(
    name: str, records: list[Record], ratios, seed: int
) -> str:
    """Where a split is kept when the config names no file."""
    clean = re.sub(r'[^A-Za-z0-9._-]+', '_', name) or 'data'
    return os.path.join(
        'work_dirs',
        'splits',
        f'{clean}-{data_hash(records)[:8]}-'
        f'{ratio_name(ratios)}-seed{seed}.json',
    )


def find_split(
    records: list[Record],
    name: str,
    split_file: str | None,
    ratios,
    seed: int,
) -> dict:
    """The split of some data: its own, that of a file, or a new one.

    A new one is written to the file and announced in one line.

    Args:
        records: all photographs.
        name: of the data.
        split_file: None takes :func:`default_split_file`.
        ratios: of a new split.
        seed: of a new split.

    Returns:
        The content of a split file.

    Raises:
        UserError: the file does not fit the data, or a file is named for
            data that comes split.
    """
    if any(record.split for record in records):
        if split_file:
            raise UserError(
                f'data root {name} comes split into train, val and test; '
                'leave split_file=None'
            )
        return given_split(records, name)
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
        f'Drew the split {sizes} of {name} by {document["grouped_by"]}, '
        f'wrote {path}'
    )
    return document


def given_split(records: list[Record], name: str) -> dict:
    """The split that the data itself names.

    Raises:
        UserError: an image without a split, or a lesion in two.
    """
    for record in records:
        if record.split not in SPLITS:
            raise UserError(
                f'{name}: image {record.sample_id} has the split '
                f'"{record.split or ""}"; it must be train, val or test for '
                'all images, or for none'
            )
    where = {record.sample_id: record.split for record in records}
    check_lesions(records, where, name)
    parts = {
        part: [i for i, home in where.items() if home == part]
        for part in SPLITS
    }
    return as_document(records, parts, dataset=name)
