# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Data sets, transforms, splits and samplers."""

from hkd_mm.registry import import_siblings

# isort: split
from hkd_mm.datasets.class_weights import balanced_weights
from hkd_mm.datasets.isic import HAM10000, ISIC2019
from hkd_mm.datasets.load_skin_image import LoadSkinImage, read_image
from hkd_mm.datasets.masks import LIDCNodule, MaskDataset, PackedMasks, SkinLesionMasks
from hkd_mm.datasets.packed import PackedDataset, packed_collate
from hkd_mm.datasets.samplers import BalancedSampler, CurriculumSampler
from hkd_mm.datasets.skin_disease import SkinDisease
from hkd_mm.datasets.splits import draw_folds, draw_split

import_siblings(__name__)

__all__ = [
    'HAM10000',
    'ISIC2019',
    'BalancedSampler',
    'CurriculumSampler',
    'LIDCNodule',
    'LoadSkinImage',
    'MaskDataset',
    'PackedDataset',
    'PackedMasks',
    'SkinDisease',
    'SkinLesionMasks',
    'balanced_weights',
    'draw_folds',
    'draw_split',
    'packed_collate',
    'read_image',
]
