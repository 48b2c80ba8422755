# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The loaders of a config."""

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
