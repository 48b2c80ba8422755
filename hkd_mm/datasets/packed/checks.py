# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Files of a packed store held against their hashes and checksums."""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np

from hkd_mm.errors import UserError

FORMAT = 'hkd_mm packed images'
PIXELS, CRC, ROWS, HEADER, DONE = (
    'pixels.bin',
    'crc32.bin',
    'rows.json',
    'header.json',
    'done.bin',
)
_BLOCK = 64  # images a thread checks at a time


def seal(header: dict) -> dict:
    """The header with the hash of everything in it."""
    text = json.dumps(header, sort_keys=True)
    return dict(header, header_hash=hashlib.sha256(text.encode()).hexdigest())


def read_header(folder: Path) -> dict:
    """The header of a store.

    Raises:
        UserError: missing, damaged, or of another kind or version.
    """
    path = folder / HEADER
    try:
        header = json.loads(path.read_bytes())
        stated = header.pop('header_hash')
        kind = header['format']
    except OSError as error:
        refuse(path, f'it cannot be read ({error.strerror})')
    except (ValueError, KeyError, AttributeError):
        refuse(path, 'it is damaged or foreign, no header of a packed store')
    if kind != FORMAT or seal(header)['header_hash'] != stated:
        refuse(path, 'it is damaged: its hash is wrong')
    return header


def wrong_rows(
    pixels: np.ndarray, crc: np.ndarray, rows: Iterable[int]
) -> list[int]:
    """Rows whose bytes do not have the checksum they should.

    Args:
        pixels: (N, bytes) uint8.
        crc: (N,) uint32.
        rows: which of them to look at.

    Returns:
        The wrong ones, in the order of ``rows``.
    """
    rows = np.asarray(rows)

    def look(part: np.ndarray) -> list[int]:
        return [int(r) for r in part if zlib.crc32(pixels[r]) != crc[r]]

    parts = np.array_split(rows, max(1, len(rows) // _BLOCK))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [row for found in pool.map(look, parts) for row in found]


def refuse(path: Path, reason: str) -> NoReturn:
    """Raise the one line about a file that is not what it should be."""
    raise UserError(
        f'packed store: {path}: {reason}; remove {path.parent} and it is '
        'built anew'
    )


def check_size(path: Path, expected: int) -> None:
    """Refuse a file of another size."""
    size = path.stat().st_size if path.is_file() else 0
    if size != expected:
        refuse(
            path,
            f'it is truncated or foreign, {size} bytes instead of {expected}',
        )


def read_hashed(folder: Path, name: str, expected: str) -> bytes:
    """A small file whole, if its SHA-256 is the expected one."""
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        refuse(path, f'it cannot be read ({error.strerror})')
    if hashlib.sha256(content).hexdigest() != expected:
        refuse(path, 'it is truncated or damaged: its hash is wrong')
    return content
