# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Predictions as CSV or Parquet: resumable while made, whole when done."""

import csv
import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hkd_mm.errors import UserError

Row = list | dict


class WorkFile:
    """Rows of JSON, one a line; the first line says what made them.

    A row is a list of cells, the first the path of the image, or
    ``dict(image=..., reason=...)`` of one that cannot be read. A line that a
    kill cut off is taken away when the file is opened again. Of what is done
    eight bytes an image are in memory. Who opens it holds
    :func:`hkd_mm.io.locks.only_writer`.

    Args:
        path: the file.
        header: what the rows depend on; a file with another is refused.
        copied: rows that a new file begins with.

    Raises:
        UserError: it is of another header.
    """

    def __init__(
        self, path: Path, header: dict[str, Any], copied: Iterable[Row] = ()
    ) -> None:
        self.path = path
        if not path.is_file():
            aside = Path(f'{path}.new')
            with open(aside, 'wb') as file:
                file.write(_line(header))
                file.writelines(map(_line, copied))
                sync(file)
            os.replace(aside, path)
        self._file = open(path, 'r+b')
        try:
            self._take_up(header)
        except BaseException:
            self._file.close()
            raise

    def _take_up(self, header: dict[str, Any]) -> None:
        found, end = self._file.readline(), self._file.tell()
        if _parsed(found) != header:
            raise UserError(
                f'{self.path} is of another model or other options '
                f'({_differing(_parsed(found), header)}); remove it, or give '
                'another --out'
            )
        done = array('Q')
        self.images = self.unreadable = 0
        for line in self._file:
            row = _parsed(line)
            if row is None:
                break
            end += len(line)
            done.append(_key(_image(row)))
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
        place = np.searchsorted(self._done, key)
        return place < len(self._done) and self._done[place] == key

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows; they survive the end of this process."""
        for row in rows:
            self._file.write(_line(row))
            self._count(row)
        self._file.flush()

    def rows(self) -> Iterator[Row]:
        """All rows, read again from the file."""
        with open(self.path, 'rb') as file:
            file.readline()
            for line in file:
                yield json.loads(line)

    def __enter__(self) -> 'WorkFile':
        return self

    def __exit__(self, *unused) -> None:
        self._file.close()


def sync(file: Any) -> None:
    """Have an open file reach the disk."""
    file.flush()
    os.fsync(file.fileno())


def _line(row: Row) -> bytes:
    # ASCII: names that are no Unicode, and line breaks in names, get through
    return json.dumps(row, separators=(',', ':')).encode() + b'\n'


def _parsed(line: bytes) -> Any:
    """The row of a whole line, else None."""
    if not line.endswith(b'\n'):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if row and isinstance(row, (list, dict)) else None


def _image(row: Row) -> str:
    return row['image'] if isinstance(row, dict) else row[0]


def _key(image: str) -> int:
    path = os.path.abspath(image).encode('utf-8', 'surrogateescape')
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), 'big')


def _differing(found: Any, header: dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return 'its first line is damaged'
    keys = {*found, *header}
    return ', '.join(
        sorted(key for key in keys if found.get(key) != header.get(key))
    )


SUFFIXES = ('.csv', '.parquet')
_TEXT = dict(encoding='utf-8', errors='surrogateescape', newline='')
_GROUP = 65536  # rows of a Parquet row group


def check_suffix(out: Path) -> None:
    """Refuse what cannot be written, before any work.

    Raises:
        UserError: of another kind, or pyarrow is missing.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f'--out {out}: give a .csv or .parquet file')
    if out.suffix == '.parquet':
        _pyarrow()


def write_table(out: Path, columns: list[str], rows: Iterable[list]) -> None:
    """Write aside, then rename.

    Args:
        out: its suffix chooses.
        columns: their names; the first and those that begin with ``best``
            hold texts, ``sure`` yes or no, the others numbers.
        rows: cells in the order of the columns.
    """
    write = _write_csv if out.suffix == '.csv' else _write_parquet
    _aside(out, lambda path: write(path, columns, rows))


def _aside(out: Path, write: Callable[[Path], Any]) -> None:
    part = out.with_name(f'.{out.name}.{os.getpid()}.part')
    try:
        write(part)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def _write_csv(path: Path, columns: list[str], rows: Iterable[list]) -> None:
    with open(path, 'w', **_TEXT) as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(columns)
        writer.writerows([_cell(cell) for cell in row] for row in rows)
        sync(file)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.6f}'
    return '' if value is None else value


def _write_parquet(
    path: Path, columns: list[str], rows: Iterable[list]
) -> None:
    arrow, parquet = _pyarrow()
    schema = arrow.schema(
        [
            (name, arrow.string() if kind is str else getattr(arrow, kind)())
            for name, kind in zip(columns, _kinds(columns))
        ]
    )
    rows = iter(rows)
    with open(path, 'wb') as file:
        with parquet.ParquetWriter(file, schema) as writer:
            while group := list(islice(rows, _GROUP)):
                cells = [list(map(_unicode, column)) for column in zip(*group)]
                arrays = [
                    arrow.array(column, field.type)
                    for column, field in zip(cells, schema)
                ]
                writer.write_table(
                    arrow.Table.from_arrays(arrays, schema=schema)
                )
        sync(file)


def _unicode(value: Any) -> Any:
    if isinstance(value, str):
        raw = value.encode('utf-8', 'surrogateescape')
        return raw.decode('utf-8', 'replace')
    return value


def _kinds(columns: list[str]) -> list:
    return [
        str
        if place == 0 or name.startswith('best')
        else 'bool_'
        if name == 'sure'
        else 'float32'
        for place, name in enumerate(columns)
    ]


def read_table(out: Path) -> Iterator[list]:
    """The rows of a table that :func:`write_table` wrote."""
    if out.suffix == '.parquet':
        _, parquet = _pyarrow()
        with parquet.ParquetFile(out) as file:
            for batch in file.iter_batches(_GROUP):
                for row in zip(*(c.to_pylist() for c in batch.columns)):
                    yield [_rounded(cell) for cell in row]
        return
    with open(out, **_TEXT) as file:
        reader = csv.reader(file)
        kinds = _kinds(next(reader))
        for row in reader:
            yield [_value(cell, kind) for cell, kind in zip(row, kinds)]


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def _value(cell: str, kind: Any) -> Any:
    if kind == 'bool_':
        return {'yes': True, 'no': False}.get(cell)
    return float(cell) if kind == 'float32' else cell


def _pyarrow():
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            f'.parquet files need pyarrow ({error}); mend it with: pip '
            'install pyarrow, or write a .csv'
        ) from None
    return pyarrow, parquet
