# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""HAM10000 and ISIC 2019 from their official tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from hkd_mm.datasets import class_folders
from hkd_mm.datasets.class_folders import find_table, way_out
from hkd_mm.datasets.label_tables import Columns, read_labels
from hkd_mm.datasets.records import Record, find_images
from hkd_mm.datasets.skin_disease import SkinDisease
from hkd_mm.errors import UserError
from hkd_mm.registry import DATASETS


@DATASETS.register_module()
class HAM10000(SkinDisease):
    """10,015 dermoscopy images of 7,470 lesions in 7 classes.

    Reads ``HAM10000_metadata`` (.csv, .tab or without suffix) with its column ``dx``,
    or the one-hot ``ISIC2018_Task3_Training_GroundTruth.csv`` with
    ``..._LesionGroupings.csv`` beside it; then the classes keep the names of ``dx``.
    Images lie in ``images``, in ``HAM10000_images_part_1`` and ``_2``, or in any other
    folder of the data root except ``originals``.

    Tschandl, Rosendahl, Kittler, Sci Data 5:180161 (2018), CC BY-NC 4.0.
    """

    METAINFO = {'classes': class_folders.HAM10000.classes}
    TABLES = class_folders.HAM10000.tables
    COMPANIONS: ClassVar = ('Metadata.csv', 'LesionGroupings.csv')

    def _find_table(self, root: Path) -> Path:
        table = None if self._table else find_table(root, self.TABLES)
        table = table or super()._find_table(root)
        if table is None:
            remedy = 'put it there or name the table with ann_file=FILE'
            raise UserError(
                f'data root {root} has no {" or ".join(self.TABLES)}; '
                f'{way_out(root) or remedy}'
            )
        return table

    def _read_table(self, root: Path, table: Path) -> list[Record]:
        found = [find_table(root, (name,)) for name in self.companions(table)]
        companions = [path for path in found if path is not None]
        records = read_official(table, self.classes, companions, self.columns)
        return find_images(records, root, table)

    @classmethod
    def companions(cls, table: Path) -> tuple[str, ...]:
        """Names of the tables of metadata of a table of labels."""
        # ISIC_2019_Test_GroundTruth.csv goes with ISIC_2019_Test_Metadata.csv.
        stem = table.name.split('GroundTruth')[0]
        return tuple(stem + name for name in cls.COMPANIONS)


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
    """

    METAINFO = {'classes': class_folders.ISIC2019.classes}
    TABLES = class_folders.ISIC2019.tables


def read_official(
    table: Path,
    classes: tuple[str, ...],
    companions: Sequence[Path] = (),
    columns: Columns | None = None,
) -> list[Record]:
    """:func:`.label_tables.read_labels` of an official table."""
    image = ('image', 'image_id', 'image_name', 'isic_id')
    label = ('dx', 'label')
    return read_labels(table, columns or Columns(), image, label, classes, companions)
