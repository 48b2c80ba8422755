# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From a finished run to a folder that its student is used from."""

from .run_export import Wishes, export, main

__all__ = ['Wishes', 'export', 'main']
