# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images with a mask each: reading, packing, batches."""

from hkd_mm.registry import import_siblings

# isort: split
from hkd_mm.datasets.masks.reading import read_mask

__all__ = ['read_mask']
import_siblings(__name__)
