# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Export a finished run to files that its student is used from."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__, export_run='export', options='ExportOptions'
)
