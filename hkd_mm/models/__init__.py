# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Algorithms, losses, connectors, recorders and networks."""

from hkd_mm.registry import import_siblings

import_siblings(__name__)
