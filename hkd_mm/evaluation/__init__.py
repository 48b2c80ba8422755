# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Metrics and statistics; importing the package alone imports no torch."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__, clinical_metric='ClinicalMetric', segmentation_metric='SegmentationMetric'
)
