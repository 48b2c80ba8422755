# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Data sets, transforms, splits and samplers."""

import warnings

from hkd_mm.registry import import_siblings

# mmcv says so at each first ColorJitter of each worker, although mmpretrain
# gives alpha and nothing else.
warnings.filterwarnings('ignore', "Only use 'alpha' for pillow backend")

import_siblings(__name__)
