# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the teacher said of each view of each image, kept."""
from .cache_file import CacheFile

__all__ = ['CacheFile']
