# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Losses on maps and masks; a new file here is found by itself."""

from hkd_mm.registry import import_siblings

import_siblings(__name__)
