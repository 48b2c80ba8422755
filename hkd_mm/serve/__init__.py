# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Predict, a demo page, and latency."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(__name__, predictor='predict')
