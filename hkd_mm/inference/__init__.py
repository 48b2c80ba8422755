# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Use an exported student without torch or OpenMMLab."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__, classifier='Answer SkinClassifier', segmentor='Segmentation Segmentor'
)
