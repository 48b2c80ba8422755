# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Networks of our own, and upstream ones with their ImageNet weights."""

from hkd_mm.registry import import_siblings

import_siblings(__name__)
