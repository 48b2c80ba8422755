# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The official ISIC and HAM10000 tables, read by the names of their columns.

Two forms exist: one column a class with ``1.0`` in the right one, and one
column ``dx`` with the name. Class order and further columns differ between
files, so nothing is read by position.
"""

from pathlib import Path

from hkd_mm.errors import UserError

from .image_finder import same_id
from .records import Record, read_table

_IMAGE = ('image', 'image_id', 'isic_id')
_LABEL = ('dx', 'label')
_NOT_METADATA = frozenset(
    (
        'image',
        'image_id',
        'isic_id',
        'lesion_id',
        'dx',
        'label',
        'split',
        'unk',
    )
)


def read_official(table: Path, classes: tuple[str, ...]) -> list[Record]:
    """Records of one official table, still without paths.

    In the one-hot form the column UNK is left out; rows that are marked in
    it have none of the classes and are left out too.

    Args:
        table: comma or tab separated file.
        classes: class names; letter case does not matter in the table.

    Raises:
        UserError: a column is missing, a row does not have exactly one
            class, or a label is outside the classes.
    """
    rows = read_table(table, ())
    columns = tuple(rows[0])
    image = next((name for name in _IMAGE if name in columns), None)
    if image is None:
        raise UserError(
            f'table {table} has no column "image" or "image_id"; '
            f'found: {", ".join(columns)}'
        )
    label = next((name for name in _LABEL if name in columns), None)
    names = {name.lower(): name for name in classes}
    if label is None:
        _check_columns(table, columns, classes)
    records = []
    for row in rows:
        name = (
            _one_hot(table, row, row[image], names)
            if label is None
            else names.get(row[label].lower(), row[label])
        )
        if name is not None:
            records.append(
                Record(
                    row[image],
                    '',
                    name,
                    row.get('lesion_id') or None,
                    row.get('split') or None,
                    _metadata(row, names),
                )
            )
    return records


def merge_metadata(records: list[Record], table: Path) -> None:
    """Add lesion ids and further columns of a second table.

    Reads ``ISIC_2019_Training_Metadata.csv``,
    ``ISIC2018_Task3_Training_LesionGroupings.csv`` and the like. Blank
    lesion ids stay None: such a photograph is a group of its own.

    Raises:
        UserError: no image column, or an image of ``records`` is not in it.
    """
    rows = read_table(table, ())
    image = next((name for name in _IMAGE if name in rows[0]), None)
    if image is None:
        raise UserError(
            f'table {table} has no column "image" or "image_id"; '
            f'found: {", ".join(rows[0])}'
        )
    by_id = {same_id(row[image]): row for row in rows}
    for record in records:
        row = by_id.get(same_id(record.sample_id))
        if row is None:
            raise UserError(
                f'table {table} has no row for image '
                f'{record.sample_id}; is it of another release?'
            )
        record.lesion_id = record.lesion_id or row.get('lesion_id') or None
        record.metadata.update(_metadata(row, {}))


def _check_columns(
    table: Path, columns: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    missing = [name for name in classes if name.lower() not in columns]
    if not missing:
        return
    found = ', '.join(columns)
    if len(missing) == len(classes):
        raise UserError(
            f'table {table} has neither a column "dx" or "label" '
            f'nor one a class; found: {found}'
        )
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
            f'table {table}, image {image}: a class column holds '
            f'no number ({error})'
        ) from None
    if len(marks) != 1 and not (unknown and not marks):
        raise UserError(
            f'table {table}, image {image}: exactly one of the classes '
            f'{", ".join(names.values())} must be 1, found '
            + (' and '.join(marks) or 'none')
        )
    return marks[0] if marks else None


def _metadata(row: dict, names: dict) -> dict:
    return {
        key: value
        for key, value in row.items()
        if key not in _NOT_METADATA and key not in names
    }
