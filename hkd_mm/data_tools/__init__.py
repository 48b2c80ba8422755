# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Convert, verify and split data sets."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__, verify='verify_data', split='draw_split_file'
)
