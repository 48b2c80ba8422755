# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Algorithms, losses, connectors, recorders and networks."""
from . import algorithms, backbones, connectors, losses, recorders  # noqa: F401
