# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images decoded and resized once, then gathered batch by batch."""

from hkd_mm.registry import import_siblings

# isort: split
from hkd_mm.datasets.packed.builder import ensure_store
from hkd_mm.datasets.packed.hair_removal import remove_hair
from hkd_mm.datasets.packed.plan import make_plan
from hkd_mm.datasets.packed.store import PackedStore

__all__ = ['PackedStore', 'ensure_store', 'make_plan', 'remove_hair']
import_siblings(__name__)
