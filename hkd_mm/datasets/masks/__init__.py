# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images with a mask each: reading, packing, batches."""

from hkd_mm.registry import import_siblings

# isort: split
from hkd_mm.datasets.masks.mask_dataset import LIDCNodule, MaskDataset, SkinLesionMasks
from hkd_mm.datasets.masks.packed_masks import PackedMasks
from hkd_mm.datasets.masks.reading import read_mask

import_siblings(__name__)

__all__ = ['LIDCNodule', 'MaskDataset', 'PackedMasks', 'SkinLesionMasks', 'read_mask']
