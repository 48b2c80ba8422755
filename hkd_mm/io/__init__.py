# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Image decoding, safe checkpoints, atomic files, locks, progress."""
