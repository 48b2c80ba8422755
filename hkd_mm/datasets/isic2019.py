# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ISIC 2019, eight diagnoses."""

from hkd_mm.registry import DATASETS

from . import official_layouts
from .ham10000 import HAM10000


@DATASETS.register_module()
class ISIC2019(HAM10000):
    """25,331 dermoscopy photographs in 8 classes (ISIC challenge 2019).

    Reads ``ISIC_2019_Training_GroundTruth.csv`` (one-hot, UNK left out)
    with ``ISIC_2019_Training_Metadata.csv`` beside it for lesion ids, age,
    sex and site. About 2,000 rows have no lesion id; each of them is a group
    of its own. File names may have or lack ``_downsampled``. The test set of
    the challenge is read with ``ann_file='ISIC_2019_Test_GroundTruth.csv'``
    and ``split='all'``; its rows marked UNK are left out.

    HAM10000 is part of it: never test on HAM10000 a net trained here.
    CC BY-NC 4.0. Arguments and errors are those of
    :class:`hkd_mm.datasets.skin_disease.SkinDisease`.
    """

    METAINFO = {'classes': official_layouts.ISIC2019.classes}
    TABLES = official_layouts.ISIC2019.tables
    COMPANIONS = ('*Metadata.csv', '*LesionGroupings.csv')
