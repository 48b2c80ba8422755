# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The public functions of hkd_mm, imported when they are first asked for."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    root='hkd_mm',
    training='test train',
    inference='Segmentor SkinClassifier',
)
