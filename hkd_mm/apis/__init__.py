# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the tools call. Imports nothing heavy by itself."""
