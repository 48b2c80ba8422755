# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Studies: many configs with several seeds, and what the figures say."""

from .run_study import main, run_study

__all__ = ['main', 'run_study']
