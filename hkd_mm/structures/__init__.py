# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Samples and predictions of a batch."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    mask_samples='IGNORE MaskPredictions MaskSamples',
    packed_samples='PackedPredictions PackedSamples',
)
