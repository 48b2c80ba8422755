# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the tools call. Imports nothing heavy by itself."""

__all__ = ['SkinClassifier']


def __getattr__(name: str):
    if name == 'SkinClassifier':
        from hkd_mm.inference.classifier import SkinClassifier

        return SkinClassifier
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
