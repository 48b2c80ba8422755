# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Algorithms, losses, connectors, recorders and networks."""

from . import (  # noqa: F401
    algorithms,
    connectors,
    losses,
    networks,
    preprocessors,
    recorders,
)
