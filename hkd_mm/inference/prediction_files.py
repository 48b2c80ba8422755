# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Predictions as CSV or Parquet: resumable while made, whole when done.

Names of images may be of any bytes. The work file and CSV hold them as they are;
Parquet, which is UTF-8, has other bytes in hexadecimal.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.io import tables
from hkd_mm.io.files import parse_json, printable, replacing
from hkd_mm.lazy import require

Row = list | dict
_TYPES = dict(string=str, float32=(int, float), bool_=bool)


class WorkFile:
    """Rows of JSON, one a line; the first line says what made them.

    A row is a list of cells, the first the path of the image, or ``dict(image=...,
    reason=...)`` of one that cannot be read; ``copied`` are those that a new file
    begins with. A line that a kill cut off is taken away when the file is opened again,
    and a file with another ``header`` is refused. Of what is done eight bytes an image
    are in memory. Who opens it holds :func:`hkd_mm.io.locks.only_writer`.
    """

    def __init__(
        self, path: Path, header: dict[str, Any], copied: Iterable[Row] = ()
    ) -> None:
        self.path = path
        if not path.is_file():
            with replacing(path) as file:
                file.write(_line(header))
                file.writelines(map(_line, copied))
        self._file = open(path, 'r+b')
        try:
            self._resume(header)
        except BaseException:
            self._file.close()
            raise

    def _resume(self, header: dict[str, Any]) -> None:
        check_header(self.path, _parsed(self._file.readline()), header)
        types = [_TYPES[kind] for kind in _kinds(header['columns'])]
        end, done = self._file.tell(), array('Q')
        self.images = self.unreadable = 0
        for line in self._file:
            row = _parsed(line)
            try:
                _check_row(row, types)
                done.append(_key(row['image'] if isinstance(row, dict) else row[0]))
            except ValueError:  # cut off, or of somebody else: made again
                break
            end += len(line)
            self._count(row)
        self._file.truncate(end)
        self._file.seek(end)
        self._done = np.sort(np.frombuffer(done, np.uint64))

    def _count(self, row: Row) -> None:
        if isinstance(row, dict):
            self.unreadable += 1
        else:
            self.images += 1

    def has(self, image: str) -> bool:
        """Whether an image was there when the file was opened."""
        key = np.uint64(_key(image))
        index = np.searchsorted(self._done, key)
        return index < len(self._done) and self._done[index] == key

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows; they survive the end of this process."""
        for row in rows:
            self._file.write(_line(row))
            self._count(row)
        self._file.flush()

    def rows(self) -> Iterator[Row]:
        """Read all rows again from the file."""
        with open(self.path, 'rb') as file:
            file.readline()
            for line in file:
                yield json.loads(line)

    def __enter__(self) -> 'WorkFile':
        return self

    def __exit__(self, *unused) -> None:
        self._file.close()


def _line(row: Row) -> bytes:
    # ASCII: names that are no Unicode, and line breaks in names, get through
    return json.dumps(row, separators=(',', ':')).encode() + b'\n'


def _parsed(line: bytes) -> Any:
    """Parse a whole line, else return None."""
    try:
        return parse_json(line) if line.endswith(b'\n') else None
    except ValueError:
        return None


def _check_row(row: Any, types: list) -> None:
    """Refuse by a ``ValueError`` what no row of a table is."""
    if isinstance(row, dict):
        right = all(isinstance(row.get(key), str) for key in ('image', 'reason'))
    else:
        right = isinstance(row, list) and len(row) == len(types) and row[0] is not None
        right = right and all(c is None or isinstance(c, k) for c, k in zip(row, types))
    if not right:
        raise ValueError


def _key(image: str) -> int:
    path = printable(os.path.abspath(image)).encode()
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), 'big')


def check_header(path: Path, found: Any, header: dict[str, Any]) -> None:
    """Refuse a file whose header, None of a damaged one, is another."""
    columns = found.get('columns') if isinstance(found, dict) else None
    if not isinstance(columns, list):
        reason = 'what it says of itself is damaged'
    elif 'sure' in columns:
        reason = 'its column "sure" is now called "confident"'
    else:
        reason = ', '.join(k for k in header if found.get(k) != header[k])
    if reason:
        raise UserError(
            f'{path} is of another model or other options ({reason}); remove '
            'it, or give another --out'
        )


SUFFIXES = ('.csv', '.parquet')
_GROUP = 65536  # rows of a Parquet row group


def check_suffix(out: Path) -> None:
    """Refuse a file that cannot be written, before any work."""
    if len(os.fsencode(out.name)) > 200:
        raise UserError(f'--out {out}: give a name of at most 200 bytes')
    if out.suffix not in SUFFIXES:
        raise UserError(f'--out {out}: give a .csv or .parquet file')
    if out.suffix == '.parquet':
        _pyarrow()


def write_table(out: Path, columns: list[str], rows: Iterable[list]) -> None:
    """Write a table in the format of its suffix, whole or not at all."""
    if out.suffix == '.csv':
        tables.write_table(out, columns, (map(_cell, row) for row in rows))
        return
    arrow, parquet = _pyarrow()
    kinds = [getattr(arrow, kind)() for kind in _kinds(columns)]
    schema = arrow.schema(list(zip(columns, kinds)))
    rows = iter(rows)
    with replacing(out) as file, parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(rows, _GROUP)):
            arrays = [
                arrow.array(
                    [printable(c) if isinstance(c, str) else c for c in column], kind
                )
                for column, kind in zip(zip(*group), kinds)
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def read_table(out: Path) -> Iterator[list]:
    """Read the rows of a table that :func:`write_table` wrote."""
    if out.suffix == '.parquet':
        _, parquet = _pyarrow()
        with parquet.ParquetFile(out) as file:
            for batch in file.iter_batches(_GROUP):
                for row in zip(*(c.to_pylist() for c in batch.columns)):
                    yield [round(c, 6) if isinstance(c, float) else c for c in row]
        return
    rows = tables.written_rows(out)
    kinds = _kinds(next(rows))
    for row in rows:
        yield [_value(cell, kind) for cell, kind in zip(row, kinds)]


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.6f}'
    return '' if value is None else value


def _value(cell: str, kind: str) -> Any:
    if kind == 'bool_':
        return {'yes': True, 'no': False}.get(cell)
    return float(cell) if kind == 'float32' else cell


def _kinds(columns: list[str]) -> list[str]:
    """Types of the columns, as pyarrow names them."""
    kinds = ['string' if name.startswith('best') else 'float32' for name in columns]
    kinds[0] = 'string'
    if 'confident' in columns:
        kinds[columns.index('confident')] = 'bool_'
    return kinds


def _pyarrow():
    use = '.parquet (other than .csv)'
    return [require(name, use, 'pyarrow') for name in ('pyarrow', 'pyarrow.parquet')]
