# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Nets that give a class to every pixel."""

from hkd_mm.registry import import_siblings

import_siblings(__name__)
