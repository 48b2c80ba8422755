# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Split files on disk: where they are, reading and whole writing."""

import json
import os
import re
from pathlib import Path

from hkd_mm.errors import UserError

from .records import Record
from .splits import data_hash, ratio_name


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
            f'split file {path} is not a split file of '
            'tools/dataset_tools/split.py'
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
        aside.write_text(
            json.dumps(document, indent=1) + '\n', encoding='utf-8'
        )
        os.replace(aside, path)
    except OSError as error:
        raise UserError(
            f'split file {path} cannot be written '
            f'({error.strerror}); name another place with '
            'split_file=FILE'
        ) from None


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
