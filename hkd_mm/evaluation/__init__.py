# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Metrics and statistics; importing the package alone imports no torch."""
