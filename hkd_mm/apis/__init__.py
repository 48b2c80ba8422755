# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the tools call. Imports nothing heavy by itself."""

__all__ = ['Segmentor', 'SkinClassifier']


def __getattr__(name: str):
    if name in __all__:
        from hkd_mm import inference

        return getattr(inference, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
