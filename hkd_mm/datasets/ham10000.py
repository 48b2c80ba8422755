# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""HAM10000, the training set of ISIC 2018 task 3."""

from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.registry import DATASETS

from . import official_layouts
from .image_finder import find_images
from .official_layouts import find_table, way_out
from .official_tables import merge_metadata, read_official
from .records import Record
from .skin_disease import SkinDisease


@DATASETS.register_module()
class HAM10000(SkinDisease):
    """10,015 dermoscopy photographs of 7,470 lesions in 7 classes.

    Reads ``HAM10000_metadata`` (.csv, .tab or without suffix) with its
    column ``dx``, or the one-hot ``ISIC2018_Task3_Training_GroundTruth.csv``
    with ``..._LesionGroupings.csv`` beside it; then the classes keep the
    names of ``dx``. Images lie in ``images``, in
    ``HAM10000_images_part_1`` and ``_2``, or in any other folder of the data
    root except ``originals``.

    Tschandl, Rosendahl, Kittler, Sci Data 5:180161 (2018), CC BY-NC 4.0.
    Arguments and errors are those of :class:`SkinDisease`.
    """

    METAINFO = {'classes': official_layouts.HAM10000.classes}
    TABLES = official_layouts.HAM10000.tables
    COMPANIONS = ('*LesionGroupings.csv',)

    def _find_table(self, root: Path) -> Path:
        table = (
            super()._find_table(root)
            if self._table
            else find_table(root, self.TABLES)
        )
        if table is None:
            missing = f'data root {root} has no {" or ".join(self.TABLES)}; '
            raise UserError(
                missing
                + (
                    way_out(root)
                    or 'put it there or name the table with ann_file=FILE'
                )
            )
        return table

    def _read_table(self, root: Path, table: Path) -> list[Record]:
        records = read_official(table, self.classes)
        if not any(record.lesion_id for record in records):
            companion = find_table(root, self._companions(table))
            if companion is not None:
                merge_metadata(records, companion)
        return find_images(records, root, table)

    def _companions(self, table: Path) -> tuple[str, ...]:
        # ISIC_2019_Test_GroundTruth.csv goes with ISIC_2019_Test_Metadata.csv.
        stem = table.name.split('GroundTruth')[0]
        return tuple(stem + name.lstrip('*') for name in self.COMPANIONS)
