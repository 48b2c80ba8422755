# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Batched preprocessing and augmentation on the model's device."""

from hkd_mm.registry import import_siblings

import_siblings(__name__)
