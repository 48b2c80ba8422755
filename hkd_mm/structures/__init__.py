# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What passes between data, networks and metrics."""
