# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Using an exported student. Imports nothing heavy by itself."""

__all__ = ['Answer', 'SkinClassifier']


def __getattr__(name: str):
    if name == 'Answer':
        from .answer import Answer

        return Answer
    if name == 'SkinClassifier':
        from .classifier import SkinClassifier

        return SkinClassifier
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
