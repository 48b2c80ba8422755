# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Studies over configs and seeds, and sweeps over settings."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    compare='run_study',
    sweep='run_sweep',
)
