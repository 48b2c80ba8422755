# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Using an exported student. Imports nothing heavy by itself."""
