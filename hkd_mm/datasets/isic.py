# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read HAM10000 and ISIC 2019 from their official tables.

Two forms exist: one column a class with ``1.0`` in the right one, and one column ``dx``
with the name. Columns are found by name, for their order differs between files.
"""

from pathlib import Path

from hkd_mm.datasets import class_folders
from hkd_mm.datasets.class_folders import find_table, way_out
from hkd_mm.datasets.records import (
    Record,
    find_images,
    groups_of_rows,
    same_id,
)
from hkd_mm.datasets.skin_disease import SkinDisease
from hkd_mm.errors import UserError
from hkd_mm.io.tables import read_table
from hkd_mm.registry import DATASETS

_IMAGE = ('image', 'image_id', 'isic_id')
_LABEL = ('dx', 'label')
_NOT_METADATA = {*_IMAGE, *_LABEL, 'lesion_id', 'split', 'unk'}


@DATASETS.register_module()
class HAM10000(SkinDisease):
    """10,015 dermoscopy images of 7,470 lesions in 7 classes.

    Reads ``HAM10000_metadata`` (.csv, .tab or without suffix) with its column ``dx``,
    or the one-hot ``ISIC2018_Task3_Training_GroundTruth.csv`` with
    ``..._LesionGroupings.csv`` beside it; then the classes keep the names of ``dx``.
    Images lie in ``images``, in ``HAM10000_images_part_1`` and ``_2``, or in any other
    folder of the data root except ``originals``.

    Tschandl, Rosendahl, Kittler, Sci Data 5:180161 (2018), CC BY-NC 4.0.
    Arguments and errors are those of :class:`SkinDisease`.
    """

    METAINFO = {'classes': class_folders.HAM10000.classes}
    TABLES = class_folders.HAM10000.tables
    COMPANIONS = ('*LesionGroupings.csv',)

    def _find_table(self, root: Path) -> Path:
        table = (
            super()._find_table(root) if self._table else find_table(root, self.TABLES)
        )
        if table is None:
            remedy = 'put it there or name the table with ann_file=FILE'
            raise UserError(
                f'data root {root} has no {" or ".join(self.TABLES)}; '
                f'{way_out(root) or remedy}'
            )
        return table

    def _read_table(self, root: Path, table: Path) -> list[Record]:
        records = read_official(table, self.classes)
        if not any(record.lesion_id for record in records):
            companion = find_table(root, self.companions(table))
            if companion is not None:
                merge_metadata(records, companion)
        return find_images(records, root, table)

    @classmethod
    def companions(cls, table: Path) -> tuple[str, ...]:
        """Names of the tables of metadata of a table of labels."""
        # ISIC_2019_Test_GroundTruth.csv goes with ISIC_2019_Test_Metadata.csv.
        stem = table.name.split('GroundTruth')[0]
        return tuple(stem + name.lstrip('*') for name in cls.COMPANIONS)


@DATASETS.register_module()
class ISIC2019(HAM10000):
    """25,331 dermoscopy images in 8 classes (ISIC challenge 2019).

    Reads ``ISIC_2019_Training_GroundTruth.csv`` (one-hot, UNK left out)
    with ``ISIC_2019_Training_Metadata.csv`` beside it for lesion ids, age,
    sex and site. About 2,000 rows have no lesion id; each of them is a group
    of its own. File names may have or lack ``_downsampled``. The test set of
    the challenge is read with ``ann_file='ISIC_2019_Test_GroundTruth.csv'``
    and ``split='all'``; its rows marked UNK are left out.

    HAM10000 is part of it: never test on HAM10000 a network trained here. CC BY-NC 4.0.
    Arguments and errors are those of :class:`hkd_mm.datasets.skin_disease.SkinDisease`.
    """

    METAINFO = {'classes': class_folders.ISIC2019.classes}
    TABLES = class_folders.ISIC2019.tables
    COMPANIONS = ('*Metadata.csv', '*LesionGroupings.csv')


def read_official(table: Path, classes: tuple[str, ...]) -> list[Record]:
    """Read the records of one official table, still without paths.

    Rows of the one-hot form that are marked UNK are left out.

    Raises:
        UserError: a column is missing, or a row does not have exactly one class.
    """
    rows, image = _read_rows(table)
    columns = tuple(rows[0])
    label = next((name for name in _LABEL if name in columns), None)
    names = {name.lower(): name for name in classes}
    if label is None:
        _check_columns(table, columns, classes)
    groups, kind = groups_of_rows(rows)
    records = []
    for row, group in zip(rows, groups):
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
                    group,
                    row.get('split') or None,
                    _metadata(row, names),
                    kind,
                )
            )
    return records


def merge_metadata(records: list[Record], table: Path) -> None:
    """Add lesion ids and further columns of a second table.

    Such as ``ISIC_2019_Training_Metadata.csv`` and
    ``ISIC2018_Task3_Training_LesionGroupings.csv``. Blank lesion ids stay
    None: such an image is a group of its own.

    Raises:
        UserError: no image column, or an image of ``records`` is not in it.
    """
    rows, image = _read_rows(table)
    groups, kind = groups_of_rows(rows)
    by_id = {same_id(row[image]): (row, group) for row, group in zip(rows, groups)}
    for record in records:
        row, group = by_id.get(same_id(record.sample_id), (None, None))
        if row is None:
            raise UserError(
                f'table {table} has no row for image '
                f'{record.sample_id}; is it of another release?'
            )
        if group is not None and record.lesion_id is None:
            record.lesion_id, record.group = group, kind
        record.metadata.update(_metadata(row, {}))


def _read_rows(table: Path) -> tuple[list[dict], str]:
    """Rows, and the name of the column of images."""
    rows = read_table(table, ())
    for name in _IMAGE:
        if name in rows[0]:
            return rows, name
    raise UserError(
        f'table {table} has no column "image" or "image_id"; '
        f'found: {", ".join(rows[0])}'
    )


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
            f'table {table}, image {image}: a class column holds no number ({error})'
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
