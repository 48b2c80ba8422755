# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read records from a table of images and masks, by its column names."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hkd_mm.datasets import label_tables
from hkd_mm.datasets.masks import folders
from hkd_mm.datasets.records import log_elsewhere
from hkd_mm.errors import UserError
from hkd_mm.io.tables import find_column, is_blank

IMAGE = ('original_image', 'image', 'image_id')
MASK = ('mask_image', 'mask')
SPLIT = ('mode', 'split')
_CLEAN = 'is_clean'
_YES, _NO = ('true', '1', 'yes'), ('false', '0', 'no')
PATIENT = ('patient_id', 'patient')
LESION = 'lesion_id'


class Group(NamedTuple):
    """Images that stay in one part: of a ``patient`` or of a ``lesion``."""

    name: str | None
    kind: str


def read_mask_table(
    root: Path,
    table: Path,
    without_mask: bool,
    columns: label_tables.Columns | None = None,
) -> list[folders.MaskRecord]:
    """Read the records of a table; a label is empty if the mask must be read.

    Args:
        table: only the column of images is required. Without a column of
            masks they are found by the image's name.
        without_mask: an image without a mask file is clean.

    Raises:
        UserError: no image column, a file is missing, or an unnamed mask
            exists beside an image without one.
    """
    rows = label_tables.read_rows(table, columns := columns or label_tables.Columns())
    names = dict(
        image=find_column(rows, table, IMAGE, columns.image_col, 'image_col'),
        mask=next((name for name in MASK if name in rows[0]), None),
        split=label_tables.find_split_column(rows, table, columns, SPLIT),
    )
    if columns.group_cols is None:
        groups = groups_of(rows, table)
    else:
        found, kind = label_tables.groups_of_rows([rows], columns, table)
        groups = [Group(name, kind) for name in found]
    known = {group.name for group in groups} - {None}
    reader = _Reader(root, table, names, known, without_mask)
    records = [reader.record(*pair) for pair in zip(rows, groups, strict=True)]
    reader.check_masks(records)
    for files in (reader.images, reader.masks):
        log_elsewhere(files, table)
    return records


class _Reader:
    def __init__(self, root, table, names, groups, without_mask) -> None:
        self.table, self.names, self.without_mask = table, names, without_mask
        images, masks = folders.image_folder(root), folders.mask_folder(root)
        self.images = folders.NamedFiles(root, images or root, groups, skipped=masks)
        self.masks = folders.NamedFiles(root, masks or root, groups, mask=True)
        self.apart = masks is not None
        self.unmarked: list[str] = []  # without a mask, not called clean

    def record(self, row: dict[str, str], group: Group) -> folders.MaskRecord:
        cell = {kind: row.get(name, '') for kind, name in self.names.items()}
        path = self.images.find(cell['image'], group.name)
        if path is None:
            raise UserError(
                f'{self.table} lists image {cell["image"] or "(no name)"}, which is '
                f'not under {self.images.folder}; add it or take its row out'
            )
        clean = row.get(_CLEAN, '').lower()
        mask = self._mask(path, cell, clean, group.name)
        marked = folders.FOREGROUND if clean in _NO else ''  # many masks unread
        # lesions of patients are kept as metadata
        group_columns = [key for key in PATIENT if key in row] or [LESION]
        used = (*self.names.values(), *group_columns, _CLEAN)
        return folders.MaskRecord(
            sample_id=self.images.id_of(path),
            path=path,
            label=marked if mask else folders.EMPTY,
            lesion_id=group.name,
            split=label_tables.part_of(cell['split']),
            metadata={k: v for k, v in row.items() if k not in used},
            mask_path=mask,
            group=group.kind,
        )

    def check_masks(self, records: list[folders.MaskRecord]) -> None:
        """Refuse unnamed masks beside images that lack one and are not called clean."""
        if not self.apart or not self.unmarked:
            return
        used = {record.mask_path for record in records}
        lone = {s: p for s, p in self.masks.by_stem.items() if p not in used}
        # those of the very path of an image are that image's
        own = {s: p for s, p in lone.items() if s not in self.images.by_stem}
        own = {stem.rsplit('/', 1)[-1]: path for stem, path in own.items()}
        for image in self.unmarked:
            name = self.images.id_of(image)
            mask = lone.get(name) or own.get(name.rsplit('/', 1)[-1])
            if mask is not None:
                raise UserError(
                    f'{self.table} names no mask for image {image}, and '
                    f'{mask} is there; name it, or say in a column {_CLEAN} '
                    'that nothing is to be seen (TRUE)'
                )
        # masks of images that the table leaves out are no mistake
        lost = [p for s, p in own.items() if not self.images.named(s)]
        if lost and not self.names['mask']:
            raise UserError(
                f'{self.table} names no masks, {len(self.unmarked)} of its images have '
                f'none of their name, and {lost[0]} belongs to no image ({len(lost)} '
                f'such masks); rename the masks, name them in a column {MASK[0]}, or '
                f'say in a column {_CLEAN} which images show nothing (TRUE)'
            )

    def _mask(
        self, image: str, cell: dict[str, str], clean: str, group: str | None
    ) -> str | None:
        """The mask of an image; None where nothing is to be seen."""
        named = '' if is_blank(cell['mask']) else cell['mask']
        sought, found = named, None
        if not self.names['mask']:
            sought = self.images.id_of(image)
            found = self.masks.by_stem.get(sought)
            sought = sought.rsplit('/', 1)[-1]
        if found in (None, image) and sought:
            found = self.masks.find(sought, group, image)
        if found and found != image:
            return found
        expected = named or clean
        if not expected:
            self.unmarked.append(image)
        if clean in _YES or (self.without_mask and not expected):
            return None
        raise UserError(
            f'{self.table}: the mask {sought or "(none named)"} of image '
            f'{cell["image"]} is not under {self.masks.folder}; add it, or '
            f'say in a column {_CLEAN} that nothing is to be seen (TRUE)'
        )


def groups_of(rows: Sequence[dict[str, str]], table: Path) -> list[Group]:
    """The group of each row: its patient, else that of its lesion, else its lesion.

    Lesions of patients are ignored: some tables number them from one for each.
    """
    pairs = [(_filled(row, PATIENT), _filled(row, (LESION,))) for row in rows]
    known = {patient for patient, _ in pairs}
    patients = defaultdict(dict)  # lesion -> its patients, in their order
    for patient, lesion in pairs:
        if patient and lesion:
            patients[lesion][patient] = None
    groups = []
    for patient, lesion in pairs:
        owners = [patient] if patient else [*patients.get(lesion, ())]
        if len(owners) > 1:
            raise UserError(
                f'{table}: lesion {lesion} is of patient {owners[0]}, of {owners[1]} '
                'and of an image whose patient is not named; fill in its patient'
            )
        if owners or not lesion:
            groups.append(Group(owners[0] if owners else None, 'patient'))
        else:  # a patient may be called as a lesion
            name = f'lesion {lesion}' if lesion in known else lesion
            groups.append(Group(name, 'lesion'))
    return groups


def _filled(row: dict[str, str], columns: Sequence[str]) -> str:
    return next((row[name] for name in columns if not is_blank(row.get(name))), '')
