# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The HTML report of a study."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(__name__, report='make_report')
