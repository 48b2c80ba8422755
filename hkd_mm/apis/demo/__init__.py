# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A page to try a teacher and its student. Imports nothing by itself."""
