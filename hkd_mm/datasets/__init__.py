# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Data sets, transforms, splits and samplers."""

from hkd_mm.registry import import_siblings

# isort: split
from hkd_mm.datasets.class_weights import balanced_weights
from hkd_mm.datasets.load_skin_image import read_image
from hkd_mm.datasets.splits import draw_folds, draw_split

__all__ = ['balanced_weights', 'draw_folds', 'draw_split', 'read_image']
import_siblings(__name__)
