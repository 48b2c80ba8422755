# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""CT scans of LIDC-IDRI and what their readers outlined."""
