# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Using an exported student. Imports nothing heavy by itself."""

from importlib import import_module

_PLACES = dict(
    Answer='answer',
    SkinClassifier='classifier',
    Segmentation='segmentor',
    Segmentor='segmentor',
)
__all__ = sorted(_PLACES)


def __getattr__(name: str):
    if name in _PLACES:
        module = import_module(f'{__name__}.{_PLACES[name]}')
        return getattr(module, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
