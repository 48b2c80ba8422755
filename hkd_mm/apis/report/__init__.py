# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A study as one HTML page: tables, figures, pictures, a model card."""

from .make_report import main, make_report

__all__ = ['main', 'make_report']
