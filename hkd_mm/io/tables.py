# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read tables of text strictly, and write them so that no cell is a formula."""

import codecs
import csv
import errno
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hkd_mm.errors import UserError
from hkd_mm.io.files import check_regular, read_bytes, replacing

# How programs write "nothing is known"; compared in lower case.
_BLANK = frozenset(
    ('', 'nan', 'na', 'n/a', '#n/a', 'none', 'null', 'nil', '-', '--', '?')
    + ('unknown', 'unk', 'missing', 'not available', 'n.a.', '<na>', '\\n', '.')
)
_DELIMITERS = '\t;,'
# Spreadsheets run texts that begin so; an apostrophe before them says "text". Texts
# that begin with such a pair get one more, so that reading can take one off.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?', re.ASCII | re.IGNORECASE)
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
        One dict a row; keys in lower case, values without outer blanks and without the
        apostrophe of :func:`write_table`. Lines without any text are no rows.

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
        columns = [_plain(name).lower() for name in next(reader, [])]
        _check_header(path, columns, required)
        for cells in reader:
            begin, last = reader.line_num, begin
            if begin - last > 1:
                raise UserError(
                    f'table {path}, line {last + 1}: a quoted cell goes on until line '
                    f'{begin}; close the quote, or double it inside of a cell'
                )
            values = [known.setdefault(v, v) for v in map(_plain, cells)]
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


def written_rows(path: str | os.PathLike) -> Iterator[list[str]]:
    """Yield the header and rows of a :func:`write_table`, each text as it was given.

    Raises:
        UserError: the file cannot be read, or a row is not as long as the header.
    """
    encoding = dict(encoding='utf-8-sig', errors='surrogateescape', newline='')
    try:
        check_regular(path)
        with open(path, **encoding) as file:
            reader, width = csv.reader(file, strict=True), None
            for cells in reader:
                if len(cells) != (width := width or len(cells)):
                    raise UserError(
                        f'table {path}, line {reader.line_num} has {len(cells)} cells '
                        f'and the header {width}'
                    )
                yield list(map(_without_mark, cells))
    except (OSError, csv.Error) as error:
        reason = getattr(error, 'strerror', None) or error
        raise UserError(f'table {path} cannot be read ({reason})') from None


def write_table(
    path: str | os.PathLike, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Write a comma separated file, which is whole or not there.

    A text that a spreadsheet would run as a formula gets an apostrophe before it,
    which both readers take off. File names may be of any bytes; None is an empty cell.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = dict(encoding='utf-8', errors='surrogateescape', newline='')
    with replacing(path, 'w', **encoding) as file:
        # csv quotes the line breaks that are in its own terminator
        lines = SimpleNamespace(write=lambda line: file.write(f'{line[:-2]}\n'))
        writer = csv.writer(lines, lineterminator='\r\n')
        writer.writerow(map(_harmless, header))
        writer.writerows(map(_harmless, row) for row in rows)


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _plain(cell: str) -> str:
    return _without_mark(cell.strip())


def _without_mark(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


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
    if data.startswith((b'PK\3\4', b'\x1f\x8b', b'\xd0\xcf\x11\xe0')):
        raise UserError(f'table {path} is a workbook or an archive; save it as CSV')
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
            'no UTF-8; save it as UTF-8, or, with CP1252 of the West (GB18030 of '
            f'China, ...): iconv -f CP1252 -t UTF-8 "{path}" > new.csv'
        ) from None
    if '\0' in text:
        raise UserError(f'table {path} holds zero bytes: it is no table')
    # str.splitlines would split at U+2028 and others as well
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
