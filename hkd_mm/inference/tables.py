# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Predictions as a CSV or Parquet file; whole or not there."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError

from .work_file import sync

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
