# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Public names of a package, imported when they are first asked for."""

import sys
from collections.abc import Callable
from importlib import import_module


def lazy_exports(
    package: str, root: str | None = None, **modules: str
) -> tuple[Callable, list[str]]:
    """Return ``__getattr__`` and ``__all__`` of a package.

    Args:
        package: ``__name__`` of the package.
        root: package that the modules are in, where it is another one.
        modules: name of a module in it -> its public names, by blanks.

    Raises:
        AttributeError: of ``__getattr__``, for any other name.
    """
    places = {
        name: module for module, names in modules.items() for name in names.split()
    }

    def __getattr__(name: str):
        if name not in places:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        found = getattr(import_module(f'{root or package}.{places[name]}'), name)
        setattr(sys.modules[package], name, found)
        return found

    return __getattr__, sorted(places)
