# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Disk cache of teacher outputs, keyed by (image, view)."""

from hkd_mm.models.teacher_cache.cache_file import CacheFile
from hkd_mm.models.teacher_cache.opening import open_teacher_cache
from hkd_mm.models.teacher_cache.teacher_cache import (
    CacheIndex,
    TeacherCache,
    flatten,
    unflatten,
)

__all__ = [
    'CacheFile',
    'CacheIndex',
    'TeacherCache',
    'flatten',
    'open_teacher_cache',
    'unflatten',
]
