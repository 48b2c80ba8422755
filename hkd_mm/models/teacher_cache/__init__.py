# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Disk cache of teacher outputs, keyed by (image, view)."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    cache_file='CacheFile',
    opening='fill_views open_teacher_cache',
    teacher_cache='CacheIndex TeacherCache flatten unflatten',
)
