# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Photographs of the skin with the outline of the lesion."""

from hkd_mm.registry import DATASETS

from .mask_dataset import MaskDataset


@DATASETS.register_module()
class SkinLesionMasks(MaskDataset):
    """RGB photographs and lossless lesion masks, as of ISIC and HAM10000.

    Masks may be named ``<image>_segmentation.png``. Every photograph needs
    one. Arguments and errors are those of :class:`MaskDataset`.
    """

    METAINFO = {'classes': ('background', 'lesion')}
    TABLES = (
        *MaskDataset.TABLES,
        'HAM10000_metadata.csv',
        'HAM10000_metadata',
    )
