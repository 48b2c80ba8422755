# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Several trainings in one process, off one stream and one teacher."""

from .group import Group, stream_key

__all__ = ['Group', 'stream_key']
