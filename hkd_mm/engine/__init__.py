# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What runs beside training: hooks, checkpoints, distribution."""

from hkd_mm.engine import hooks  # noqa: F401
from hkd_mm.registry import import_siblings

import_siblings(__name__)
