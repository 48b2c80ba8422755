# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Sweeps: settings tried one after the other, the winner tested once."""

from .run_sweep import main, run_sweep

__all__ = ['main', 'run_sweep']
