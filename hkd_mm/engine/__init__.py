# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Runner, hooks, distribution, and the files and students of a run."""

import hkd_mm.registry  # noqa: F401 - first: it prepares OpenMMLab

# isort: split
from hkd_mm.engine import distributed, hooks  # noqa: F401 - they register
