# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read images with masks from a table or folders."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from hkd_mm.datasets.masks import folders
from hkd_mm.datasets.masks.mask_tables import read_mask_table
from hkd_mm.datasets.masks.reading import read_mask
from hkd_mm.datasets.records import file_stamp
from hkd_mm.datasets.skin_disease import SkinDisease
from hkd_mm.errors import UserError
from hkd_mm.io.progress import parallel_map
from hkd_mm.registry import DATASETS
from hkd_mm.structures.mask_samples import IGNORE


@DATASETS.register_module()
class MaskDataset(SkinDisease):
    """Images of 8 or 16 bits, each with a mask of its size.

    A table (``split_dataset.csv``, or ``ann_file``) names the images in
    ``original_image`` or ``image``, the masks in ``mask_image`` or ``mask``, and may
    name patients (``patient_id``, ``patient``, ``lesion_id``), parts (``mode``,
    ``split``) and images with an empty mask (``is_clean``). Without a table, folders
    ``Image`` and ``Mask`` hold files of the same names, see :mod:`.folders`.

    Where the data does not come split, a split is drawn once, patients kept together,
    with equal shares of marked images, and written to a file.

    One sample: ``img_path``, ``mask_path`` (None: empty), ``gt_label`` (0 if the mask
    is empty, else 1; where ``is_clean`` is FALSE the mask is not opened for that),
    ``sample_id`` (path below the image folder without suffix), ``patient_id`` and
    ``lesion_id`` (the same, str or None), ``metadata`` (other columns, dict of str).

    Args:
        classes: class names, the background first; two of them make masks
            binary, every value above 0 being the second.
        channels: 3 (RGB) or 1; None takes that of the class, also below.
        bits: of a channel, 8 or 16 (then one channel).
        without_mask: an image without a mask file is clean; False refuses it.

    Raises:
        UserError: a file is missing, the table does not fit, or a patient is
            in two parts.
    """

    METAINFO = {'classes': ('background', 'foreground')}
    TABLES: ClassVar = ('split_dataset.csv', 'annotations.csv')
    channels: int = 3
    bits: int = 8
    without_mask: bool = False

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        classes: Sequence[str] | None = None,
        channels: int | None = None,
        bits: int | None = None,
        without_mask: bool | None = None,
        **kwargs,
    ) -> None:
        self.channels = self.channels if channels is None else channels
        self.bits = self.bits if bits is None else bits
        if without_mask is not None:
            self.without_mask = without_mask
        if (self.channels, self.bits) not in ((1, 8), (3, 8), (1, 16)):
            raise UserError(
                f'channels={self.channels} and bits={self.bits} must be 1 or '
                '3 channels of 8 bits, or 1 channel of 16'
            )
        if kwargs.get('label_col') is not None:
            raise UserError(
                f'label_col={kwargs["label_col"]} is for classes, and the masks of '
                f'{data_root} say what is to be seen; leave it out'
            )
        if kwargs.get('unlabelled_root') is not None:
            raise UserError('unlabelled_root is for classes, not masks; leave it out')
        super().__init__(data_root, split, classes=classes, **kwargs)

    def _read_records(self, root: Path) -> list[folders.MaskRecord]:
        table = self._find_table(root)
        records = (
            folders.read_mask_folders(root, self.without_mask)
            if table is None
            else read_mask_table(root, table, self.without_mask, self.columns)
        )
        self._check_records(records, table or root)
        return records

    def class_counts(self) -> np.ndarray:
        """Images with an empty and with a marked mask, (2,) int64."""
        return np.bincount(self.get_gt_labels(), minlength=2)

    def _find_table(self, root: Path) -> Path | None:
        found = (root / name for name in (() if self._table else self.TABLES))
        own = next((path for path in found if path.is_file()), None)
        return own or super()._find_table(root)

    def _check_records(self, records: list[folders.MaskRecord], source: Path) -> None:
        seen, masks = set(), {}
        for record in records:
            first = masks.setdefault(record.mask_path, record)
            if record.mask_path and first is not record:
                raise UserError(
                    f'{source}: {record.mask_path} is the mask of {first.sample_id} '
                    f'and of {record.sample_id}; name the mask of each by its path'
                )
            if record.sample_id in seen:
                raise UserError(
                    f'{source}: image {record.sample_id} is listed twice; '
                    'join its masks and its rows to one'
                )
            seen.add(record.sample_id)
        if not any(record.mask_path for record in records):
            raise UserError(f'{source}: not one image has a mask')
        unread = [record for record in records if not record.label]
        marked = _marked([record.mask_path for record in unread], len(self.classes))
        for record, yes in zip(unread, marked):
            record.label = folders.FOREGROUND if yes else folders.EMPTY

    def _check_part(self, data: list[dict]) -> None:
        if not data:
            super()._check_part(data)
        if self.split == 'train' and not any(s['gt_label'] for s in data):
            raise UserError(
                f'the training split of {self.data_root} holds no image with '
                'something marked in its mask'
            )

    def _data_info(self, record: folders.MaskRecord) -> dict:
        return dict(
            img_path=record.path,
            mask_path=record.mask_path,
            gt_label=int(record.label == folders.FOREGROUND),
            sample_id=record.sample_id,
            patient_id=record.lesion_id,
            lesion_id=record.lesion_id,
            metadata=record.metadata,
        )


_known: dict[tuple, bool] = {}  # train, val and test ask for the same masks


def _marked(paths: Sequence[str], classes: int) -> list[bool]:
    keys = [(path, classes, *file_stamp(path)) for path in paths]
    new = [key for key in dict.fromkeys(keys) if key not in _known]
    if new:
        found = parallel_map(
            partial(marks_anything, classes=classes),
            [key[0] for key in new],
            f'reading {len(new)} masks',
        )
        _known.update(zip(new, found, strict=True))
    return [_known[key] for key in keys]


def marks_anything(path: str, classes: int) -> bool:
    """Whether a mask file marks anything that counts."""
    mask = read_mask(path, classes)
    return bool(((mask > 0) & (mask != IGNORE)).any())


@DATASETS.register_module()
class LIDCNodule(MaskDataset):
    """CT slices of LIDC-IDRI, 16 bits, one channel, with nodule masks.

    A :class:`MaskDataset` whose patients must be known; a slice without a mask file is
    clean. Armato et al., Medical Physics 38:915 (2011), CC BY 3.0.
    """

    METAINFO = {'classes': ('background', 'nodule')}
    channels = 1
    bits = 16
    without_mask = True

    def _check_records(self, records: list[folders.MaskRecord], source: Path) -> None:
        for record in records:
            if not record.lesion_id or record.group == 'lesion':
                raise UserError(
                    f'{source}: the patient of image {record.sample_id} is not known, '
                    'so that nothing keeps patients in one part; add a column '
                    'patient_id, or put the images of each patient into a folder'
                )
        super()._check_records(records, source)


@DATASETS.register_module()
class SkinLesionMasks(MaskDataset):
    """RGB images and lossless lesion masks, as of ISIC and HAM10000.

    A :class:`MaskDataset`; masks may be named ``<image>_segmentation.png``.
    """

    METAINFO = {'classes': ('background', 'lesion')}
    TABLES = (*MaskDataset.TABLES, 'HAM10000_metadata.csv', 'HAM10000_metadata')
