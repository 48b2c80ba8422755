# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How long nets take, runtime by runtime. Imports nothing by itself."""
