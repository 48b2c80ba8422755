# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the nets trained alone share: 100 epochs, else as distilled."""
_base_ = './_base_run.py'
max_epochs = 100
