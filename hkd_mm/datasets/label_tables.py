# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read records from a table of labels: a column of them, or one-hot columns."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from hkd_mm.datasets.records import (
    GROUP_COLUMNS,
    SPLIT_NAMES,
    Record,
    composed,
    group_names,
    kind_of,
    same_id,
)
from hkd_mm.errors import UserError
from hkd_mm.io.schema import validate
from hkd_mm.io.tables import find_column, is_blank, read_table

_Name = Annotated[
    str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1)
]
_GROUP = re.compile(
    r'(lesion[\W_]*id)|patient|(patient|subject)[\W_]*(id|no|nr|number)'
)
_STANDARD = {'image', 'label', 'lesion_id', 'split'}  # never metadata


@dataclass(frozen=True)
class Columns:
    """What a user calls the columns of a table; None takes the usual names."""

    image_col: _Name | None = None
    label_col: _Name | None = None
    group_cols: Annotated[tuple[_Name, ...], Field(min_length=1)] | None = None
    split_col: _Name | None = None


def named_columns(**words: Any) -> Columns:
    """Check the arguments of a data set that name columns; groups may be a text."""
    groups = words.get('group_cols')
    if isinstance(groups, str):
        words['group_cols'] = groups.split(',')
    return validate(Columns, words, 'names of columns')


def find_split_column(
    rows: list[dict[str, str]],
    table: Path,
    columns: Columns,
    known: tuple[str, ...] = ('split',),
) -> str | None:
    """The column that names the parts of a split, if there is one."""
    if columns.split_col is None and not {*known} & {*rows[0]}:
        return None
    return find_column(rows, table, known, columns.split_col, 'split_col')


def part_of(cell: str | None) -> str | None:
    """The part that a cell names: train, val, test, None or what is no part."""
    return None if is_blank(cell) else SPLIT_NAMES.get(cell.lower(), cell)


def read_rows(table: Path, columns: Columns) -> list[dict[str, str]]:
    """Read a table; ``PatientID`` or ``Lesion ID`` is called as groups usually are."""
    rows, spelled = read_table(table), {}
    named = {columns.image_col, columns.label_col, columns.split_col}
    for name in [*rows[0]] if columns.group_cols is None else ():
        found = name not in named and _GROUP.fullmatch(name)
        standard = found and ('lesion_id' if found[1] else 'patient_id')
        if standard in spelled:
            raise UserError(
                f'table {table}: "{spelled[standard]}" and "{name}" both look like a '
                f'{standard}; say which group images: group_cols={name}'
            )
        if standard and standard not in rows[0]:
            spelled[standard] = name
            for row in rows:
                row[standard] = row.pop(name)
    return rows


def groups_of_rows(
    tables: Sequence[Sequence[dict[str, str]]], columns: Columns, source: str | Path
) -> tuple[list[str | None], str]:
    """Group images by all columns that name a group, of all tables.

    Args:
        tables: rows of each table, row i of each being of image i.

    Returns:
        One name an image, see :func:`group_names`, and the kind of the groups.

    Raises:
        UserError: ``group_cols`` names a column that no table has.
    """
    known = [name for name in GROUP_COLUMNS if any(name in t[0] for t in tables)]
    if columns.group_cols is not None:
        known = sorted({*columns.group_cols}, key=lambda n: (n == 'patient_id', n))
    for name in known:
        if not any(name in table[0] for table in tables):
            raise UserError(
                f'table {source} has no column "{name}"; found: '
                f'{", ".join(tables[0][0])}; name the right ones with group_cols=A,B'
            )
    places = [(i, name) for i, t in enumerate(tables) for name in known if name in t[0]]
    values = [[rows[i].get(name) for i, name in places] for rows in zip(*tables)]
    return group_names([name for _, name in places], values), kind_of(known) or 'lesion'


def read_labels(
    table: Path,
    columns: Columns,
    image: tuple[str, ...] = ('image',),
    label: tuple[str, ...] = ('label',),
    classes: tuple[str, ...] = (),
    companions: Sequence[Path] = (),
) -> list[Record]:
    """Read the records of a table, still without paths.

    Args:
        image, label: usual names of these columns.
        classes: of the one-hot form, which is read where no label column is
            found; its rows marked UNK are left out.
        companions: further tables with groups and metadata of the images.

    Raises:
        UserError: a column is missing, a row has not exactly one class, or an
            image has no row in a companion.
    """
    rows = read_rows(table, columns)
    image = find_column(rows, table, image, columns.image_col, 'image_col')
    images = [row[image] for row in rows]
    tables = [rows, *(_companion_rows(images, path, columns) for path in companions)]
    names = {name.lower(): name for name in classes}
    one_hot = classes and not columns.label_col and not {*label} & {*rows[0]}
    if one_hot:
        _check_columns(table, tuple(rows[0]), classes)
        used = {image, 'unk', *names}
    else:
        label = find_column(rows, table, label, columns.label_col, 'label_col')
        used = {image, label}
    split = find_split_column(rows, table, columns)
    groups, kind = groups_of_rows(tables, columns, table)
    records = []
    for group, *found in zip(groups, *tables):
        row = found[0]
        name = (
            _one_hot(table, row, row[image], names)
            if one_hot
            else names.get(row[label].lower(), composed(row[label]))
        )
        if name is not None:
            metadata = {
                key: value
                for part in found
                for key, value in part.items()
                if key not in {*used, *_STANDARD, split}
            }
            part = part_of(row.get(split))
            records.append(Record(row[image], '', name, group, part, metadata, kind))
    return records


def _companion_rows(
    images: Sequence[str], table: Path, columns: Columns
) -> list[dict[str, str]]:
    rows = read_rows(table, columns)
    named = columns.image_col if columns.image_col in rows[0] else None
    known = ('image', 'image_id', 'image_name', 'isic_id')
    column = find_column(rows, table, known, named, 'image_col')
    by_id: dict[str, dict[str, str]] = {}
    for row in rows:
        image = row.pop(column)
        if by_id.setdefault(same_id(image), row) != row:
            raise UserError(
                f'table {table} has rows for image {image} that differ; keep one'
            )
    for image in images:
        if same_id(image) not in by_id:
            raise UserError(
                f'table {table} has no row for image {image}; is it of another release?'
            )
    return [by_id[same_id(image)] for image in images]


def _check_columns(
    table: Path, columns: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    missing = [name for name in classes if name.lower() not in columns]
    found = ', '.join(columns)
    if len(missing) == len(classes):
        raise UserError(
            f'table {table} has neither a column "dx" or "label" nor one a class; '
            f'found: {found}; name the column of labels with label_col=NAME'
        )
    if missing:
        raise UserError(
            f'table {table} has no column "{missing[0]}" for that class; found: '
            f'{found}; name the classes of this table with classes=[...]'
        )


def _one_hot(table: Path, row: dict, image: str, names: dict) -> str | None:
    try:
        marks = [name for key, name in names.items() if float(row[key]) > 0.5]
        unknown = float(row.get('unk') or 0) > 0.5
    except ValueError as error:
        raise UserError(
            f'table {table}, image {image}: a class column holds no number ({error})'
        ) from None
    if len(marks) != 1 and not (unknown and not marks):
        raise UserError(
            f'table {table}, image {image}: exactly one of the classes '
            f'{", ".join(names.values())} must be 1, found '
            + (' and '.join(marks) or 'none')
        )
    return marks[0] if marks else None
