# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Studies over configs and seeds, and sweeps over settings."""
