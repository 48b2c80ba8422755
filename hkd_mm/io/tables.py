# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read tables of text strictly: what is cut, doubled or open is refused."""

import codecs
import csv
import errno
import io
import os
from collections import Counter
from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.io.files import read_bytes

# How programs write "nothing is known"; compared in lower case.
_BLANK = frozenset(
    ('', 'nan', 'na', 'n/a', '#n/a', 'none', 'null', 'nil', '-', '--', '?')
    + ('unknown', 'unk', 'missing', 'not available')
)
_DELIMITERS = '\t;,'
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def is_blank(text: str | None) -> bool:
    """Whether a cell says that nothing is known: empty, ``NA``, ``-``, ..."""
    return text is None or text.strip().lower() in _BLANK


def read_table(
    path: str | os.PathLike, required: tuple[str, ...] = ()
) -> list[dict[str, str]]:
    """Rows of a comma, semicolon or tab separated file by column name.

    Args:
        path: UTF-8 with or without byte order mark; the first line names the
            columns, in any letter case.
        required: column names that must be there, in lower case.

    Returns:
        One dict a row; keys in lower case, values without outer blanks.
        Lines without any text are no rows.

    Raises:
        UserError: unreadable, in another encoding, without rows or a required
            column, a column named twice, a row with more or fewer cells than
            the header, or a quote that is not closed in its line.
    """
    lines = _lines(Path(path))
    header = lines[0] if lines else ''
    delimiter = max(
        _DELIMITERS,
        key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])),
    )
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows: list[dict[str, str]] = []
    known: dict[str, str] = {}  # equal texts of a column are kept once
    begin = 1
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        _check_header(path, columns, required)
        for cells in reader:
            begin, last = reader.line_num, begin
            if begin - last > 1:
                raise UserError(
                    f'table {path}, line {last + 1}: a quoted cell goes on '
                    f'until line {begin}; close the quote, or double it '
                    'inside of a cell'
                )
            values = [known.setdefault(v, v) for v in map(str.strip, cells)]
            if any(values):
                _check_row(path, begin, columns, values)
                rows.append(dict(zip(columns, values)))
    except csv.Error as error:
        raise UserError(
            f'table {path}, line {begin + 1}: {error}; look at its quotes'
        ) from None
    if not rows:
        raise UserError(f'table {path} has no rows under its column names')
    return rows


def _lines(path: Path) -> list[str]:
    """The text, line by line, without the hint of a spreadsheet program."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise UserError(
            f'table {path} does not exist; name it with ann_file=FILE'
        ) from None
    except OSError as error:
        if error.errno != errno.ENODATA:  # an empty one has no columns
            raise UserError(f'table {path} cannot be read: {error.strerror}') from None
        data = b''
    if data.startswith(_UTF_16):
        raise UserError(
            f'table {path} is UTF-16; save it as UTF-8, or: iconv -f UTF-16 '
            f'-t UTF-8 "{path}" > new.csv'
        )
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = data.count(b'\n', 0, error.start) + 1
        raise UserError(
            f'table {path}, line {line}: byte 0x{data[error.start]:02x} is '
            'no UTF-8, so it is probably cp1252 or Latin-1; save it as UTF-8, '
            f'or: iconv -f CP1252 -t UTF-8 "{path}" > new.csv'
        ) from None
    if '\0' in text:
        raise UserError(f'table {path} holds zero bytes: it is no table')
    lines = io.StringIO(text, newline='').readlines()
    if lines and lines[0].lower().startswith('sep='):
        lines = lines[1:]
    return lines


def find_column(
    rows: list[dict[str, str]],
    table: str | os.PathLike,
    known: tuple[str, ...],
    named: str | None,
    word: str,
) -> str:
    """Find the column that the user calls ``named``, or one of its usual names.

    Raises:
        UserError: there is none; ``word`` is the option that names it.
    """
    wanted = known if named is None else (named.strip().lower(),)
    for name in wanted:
        if name in rows[0]:
            return name
    names = ' or '.join(f'"{name}"' for name in wanted)
    raise UserError(
        f'table {table} has no column {names}; found: {", ".join(rows[0])}; '
        f'name the right one with {word}=NAME'
    )


def _check_header(path: Path, columns: list[str], required: tuple[str, ...]) -> None:
    twins = [name for name, count in Counter(columns).items() if count > 1]
    if twins:
        raise UserError(
            f'table {path} has {columns.count(twins[0])} columns called '
            f'"{twins[0]}"; rename or remove all but one'
        )
    missing = [name for name in required if name not in columns]
    if missing:
        raise UserError(
            f'table {path} has no column "{missing[0]}"; found: '
            + (', '.join(columns) or 'none')
        )


def _check_row(path: Path, line: int, columns: list[str], values: list[str]) -> None:
    if len(values) > len(columns):
        raise UserError(
            f'table {path}, line {line} has {len(values)} cells and the '
            f'header {len(columns)}: put a cell with a comma in quotes'
        )
    if len(values) < len(columns):
        raise UserError(
            f'table {path}, line {line} ends before its column '
            f'"{columns[len(values)]}"; complete the row'
        )
