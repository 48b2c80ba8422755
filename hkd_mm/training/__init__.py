# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Train and test a config, and what both rest on."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__, trainer='train', tester='test', fill_teacher_cache='build_teacher_cache'
)
