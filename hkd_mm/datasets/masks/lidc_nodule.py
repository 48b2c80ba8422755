# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Lung nodules in CT slices."""

from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.registry import DATASETS

from .mask_dataset import MaskDataset
from .mask_record import MaskRecord


@DATASETS.register_module()
class LIDCNodule(MaskDataset):
    """CT slices of LIDC-IDRI, 16 bits, one channel, with nodule masks.

    Reads what ``tools/dataset_tools/convert_lidc.py`` writes, and any table
    or folders of :class:`MaskDataset`; patients must be known, from the table
    or from a folder of each. A slice without a mask file is clean.

    Armato et al., Medical Physics 38:915 (2011), CC BY 3.0. Arguments and
    errors are those of :class:`MaskDataset`.
    """

    METAINFO = {'classes': ('background', 'nodule')}
    channels = 1
    bits = 16
    without_mask = True

    def _check_records(self, records: list[MaskRecord], source: Path) -> None:
        for record in records:
            if not record.lesion_id or record.group != 'patient':
                raise UserError(
                    f'{source}: the patient of image {record.sample_id} is '
                    'not known, so that nothing keeps patients in one part; '
                    'add a column patient_id, or put the images of each '
                    'patient into a folder'
                )
        super()._check_records(records, source)
