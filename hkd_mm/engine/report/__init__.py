# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a run leaves behind, one module an artefact."""
